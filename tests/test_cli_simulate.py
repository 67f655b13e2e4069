"""`llmux simulate`, typed: what people read, what programs read, and what it says when there is nothing to say."""

import gzip
import json
from pathlib import Path
from typing import Any

import click
import pytest
import trio
from click.testing import CliRunner, Result

from llmux import migrations
from llmux.actors.opening import open_system
from llmux.actors.simulation import Rules
from llmux.cli import main
from llmux.cli.simulating import rules_of, weights_of
from llmux.clock import SeededClock
from llmux.events import EventSkipped, NewEvent
from llmux.eventstore import Append
from llmux.failures import LLMuxError
from tests.actors.house import house_settings, scripted, wish
from tests.eventstore.logs import CLOCK, opened, tampered

GOLDEN = Path(__file__).parent / "golden" / "log-1.db.gz"


def simulate(data_dir: Path, *args: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *args], env={"LLMUX_DATA_DIR": str(data_dir), "HOME": str(data_dir)})


def report(data_dir: Path, *args: str) -> dict[str, Any]:
    done = simulate(data_dir, *args, "--json")
    assert done.exit_code == 0, done.output
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def make_log(tmp_path: Path, requests: int = 20, **models: str) -> Path:
    """A log of requests to scripted providers, all of weight 50; returns its directory."""
    settings = house_settings(tmp_path, {name: scripted(model, weight=50) for name, model in models.items()})

    async def work() -> None:
        async with open_system(settings, SeededClock(11), environ={}) as system:
            for number in range(requests):
                try:
                    with system.request(wish(f"prompt {number}", tries=1)) as request:
                        await request.answer()
                except LLMuxError:
                    pass  # the log says so

    trio.run(work)
    return settings.data_dir


def golden(tmp_path: Path) -> Path:
    (tmp_path / "events.db").write_bytes(gzip.decompress(GOLDEN.read_bytes()))
    migrations.upgrade(tmp_path / "events.db")
    return tmp_path


def test_it_shows_what_would_have_been_and_how_sure_that_is(tmp_path):
    log = make_log(tmp_path, one="echo", two="echo")
    shown = simulate(log, "--weights", "one=90,two=10")
    assert shown.exit_code == 0, shown.output
    assert "Weights: one 50 -> 90, two 50 -> 10." in shown.stdout
    for said in ("~ (an expected value)", "makes the recorded order of every request", "100.0% answered of"):
        assert said in shown.stdout
    table = [line.split() for line in shown.stdout.splitlines() if line.startswith(("one", "two", "  simulated"))]
    assert [line[0] for line in table] == ["one", "simulated", "two", "simulated", "simulated"]
    assert int(table[0][1]) + int(table[2][1]) == int(table[1][1]) + int(table[3][1]) == 20
    assert all(len(line) <= 80 for line in shown.stdout.splitlines() if line.startswith(("one", "two", "  simulated")))
    value = report(log, "--weights", "one=90,two=10")
    assert value["providers"][0]["simulated"]["requests"] == int(table[1][1])
    assert value["moved"] == value["estimated"] > 0
    assert all(f"- {sentence}\n" in shown.stdout for sentence in value["sentences"])


def test_without_anything_new_it_is_the_record(tmp_path):
    log = make_log(tmp_path, one="echo", two="fail=crashed")
    same = report(log)
    assert (same["known"], same["estimated"], same["moved"]) == (20, 0, 0)
    assert all(each["recorded"] == each["simulated"] for each in same["providers"])
    assert report(log, "--weights", "one=50,two=50")["providers"][0]["simulated"] == same["providers"][0]["recorded"]
    assert "~" not in simulate(log).stdout


def test_a_log_of_the_first_version_says_what_was_assumed_only_where_it_matters(tmp_path):
    log = golden(tmp_path)
    same = report(log)
    assert same["reproduced"] == same["accepted"] == 28
    assert same["simulated"] == same["recorded"]
    assert (same["routed"], same["joined"], same["from_cache"], same["open"]) == (25, 1, 2, 0)
    assert same["order_assumed"] > 0
    assert "does not tell the order" not in simulate(log).stdout
    assert "does not tell the order" in simulate(log, "--weights", "alpha=1").stdout


def test_a_log_without_requests_is_a_sentence(tmp_path):
    async def empty() -> None:
        async with opened(tmp_path):
            pass

    trio.run(empty)
    for args in ((), ("--weights", "claude=3"), ("--policy", "no-fallback")):
        shown = simulate(tmp_path, *args)
        assert (shown.exit_code, shown.stdout.count("\n")) == (0, 1)
        assert "no request" in shown.stdout
    assert report(tmp_path)["accepted"] == 0


def test_a_log_of_nothing_but_failures_is_simulated(tmp_path):
    log = make_log(tmp_path, one="fail=crashed", two="fail=garbled")
    value = report(log, "--weights", "one=5,two=95")
    assert value["recorded"]["failed"] == value["simulated"]["failed"] == 20
    assert value["known"] == 20, "every route was tried by every request"
    shown = simulate(log, "--weights", "one=5,two=95")
    assert "Failed: 20 recorded, 20 simulated." in shown.stdout
    assert "-" in shown.stdout.splitlines()[5].split()


def test_an_event_of_an_unknown_type_stops_it_unless_it_is_skipped(tmp_path):
    log = make_log(tmp_path, 3, one="echo")
    tampered(log, "UPDATE events SET type = 'FutureFact' WHERE position = 4")
    stopped = simulate(log)
    assert stopped.exit_code == 1
    assert "Position 4 holds a FutureFact" in stopped.stderr
    assert "Traceback" not in stopped.output

    async def skip() -> None:
        async with opened(log) as store:
            fact = EventSkipped(skipped=4, reason="a test")
            await store.append([Append((NewEvent("log-skips", fact, CLOCK.new_id()),), {})])

    trio.run(skip)
    skipped = simulate(log)
    assert skipped.exit_code == 0, skipped.output
    assert report(log)["accepted"] == 3


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--weights", "claude=70"), "no provider 'claude'; it has one, two"),
        (("--weights", "one"), "write each provider once"),
        (("--weights", "one=-1"), "0 to 10000"),
        (("--weights", "one=1,one=2"), "write each provider once"),
        (("--policy", "cooldown.claude=5m"), "no provider 'claude'; it has one, two"),
        (("--policy", "cooldown=soon"), "write 300s, 5m or 1h"),
        (("--policy", "cooldown=8d"), "at most 7d"),
        (("--policy", "cooldown.one.crashed=5s"), "KIND is one of quota_exhausted"),
        (("--policy", "cooldown.=5s"), "is no rule"),
        (("--policy", "faster"), "is no rule"),
        (("--from", "yesterday"), "write a position such as 120"),
        (("--to", "-3"), "write a position such as 120"),
    ],
)
def test_what_cannot_be_simulated_is_a_sentence_that_names_the_option(tmp_path, args, said):
    log = make_log(tmp_path, 2, one="echo", two="echo")
    refused = simulate(log, *args)
    assert refused.exit_code == 2
    assert args[0] in refused.stderr
    assert said in refused.stderr
    assert "Traceback" not in refused.output


def test_a_window_is_given_in_positions_or_times(tmp_path):
    log = make_log(tmp_path, 6, one="echo")
    whole = report(log)
    assert (whole["first"], whole["accepted"]) == (1, 6)
    later = report(log, "--from", "10")
    assert (later["first"], later["accepted"]) == (10, 4)
    assert report(log, "--from", "10", "--to", "14")["accepted"] == 2
    assert report(log, "--to", "1970-01-01T00:00:00Z")["accepted"] == 0
    assert report(log, "--from", "1970-01-01T00:00:00Z")["accepted"] == 6


def test_rules_and_weights_are_read_as_typed():
    assert weights_of(" claude=70, gemini=0 ,") == {"claude": 70, "gemini": 0}
    assert rules_of(("cooldown=300s,no-fallback", "cooldown.claude=5m", "cooldown.overloaded=500000ms")) == Rules(
        {("", ""): 300_000, ("claude", ""): 300_000, ("", "overloaded"): 500_000}, fallback=False
    )
    rules = rules_of(
        ("cooldown=1h", "cooldown.claude=2h", "cooldown.quota_exhausted=3h", "cooldown.claude.timed_out=1d")
    )
    hours = {
        pair: (rules.cooldown_ms(*pair) or 0) / 3_600_000
        for pair in (
            ("claude", "timed_out"),
            ("claude", "overloaded"),
            ("gemini", "quota_exhausted"),
            ("gemini", "timed_out"),
        )
    }
    assert list(hours.values()) == [24, 2, 3, 1]
    assert rules_of(()).cooldown_ms("claude", "timed_out") is None
    with pytest.raises(click.BadParameter):
        weights_of("=3")
