"""`llmux events` and `llmux request`: filters, forms, stories."""

import io
import json
from pathlib import Path

import pytest
import trio
from rich.console import Console

from llmux.actors.opening import open_system
from llmux.cli.reading import EventTable
from llmux.clock import SystemClock
from llmux.config import ProviderSettings, Settings
from llmux.events import RecordedEvent
from tests.actors.house import wish
from tests.cli.running import Here


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """A log with two requests, of which the second shares the flight of the first."""
    here = Here(tmp_path / "home")
    here.ids = trio.run(_two_requests, here.data_dir)
    return here


async def _two_requests(directory: Path) -> list[str]:
    provider = ProviderSettings(kind="scripted", default_model="delay=20,say=hi")
    settings = Settings(data_dir=directory, providers={"claude": provider}, secret="for tests")
    ids: list[str] = []

    async def ask() -> None:
        with system.request(wish(use_cache=True)) as request:
            await request.answer()
        ids.append(request.id)

    async with open_system(settings, SystemClock(), environ={}) as system, trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    return sorted(ids)


def shown(here: Here, *args: str) -> list[dict]:
    printed = here.llmux("events", "--json", *args)
    assert printed.exit_code == 0, printed.stderr
    return [json.loads(line) for line in printed.stdout.splitlines()]


def positions(here: Here, *args: str) -> list[int]:
    return [event["position"] for event in shown(here, *args)]


def test_events_are_filtered_by_whatever_is_given(here: Here):
    everything = shown(here)
    last = everything[-1]["position"]
    assert [event["position"] for event in everything] == list(range(1, last + 1))
    assert positions(here, "--after", "2", "--until", "4") == [3, 4]
    assert positions(here, "--limit", "3", "--after", "1") == [2, 3, 4]
    assert positions(here, "--principal", "local") == [e["position"] for e in everything if e["principal"] == "local"]
    assert positions(here, "--from", everything[0]["recorded_at"]) == list(range(1, last + 1))
    assert positions(here, "--to", "2000-01-01") == positions(here, "--from", "2100-01-01T00:00Z") == []
    two = ("--stream", "gateway", "--stream", "log-snapshots")
    assert [event["type"] for event in shown(here, *two)] == ["GatewayStarted", "SnapshotTaken", "GatewayStopped"]
    assert positions(here, *two, "--type", "GatewayStarted") == [1]


def test_a_request_has_the_events_of_its_own_and_of_its_flight(here: Here):
    owner, joined = here.ids
    for id, own in (
        (owner, ["RequestAccepted", "RequestCompleted"]),
        (joined, ["RequestAccepted", "RequestJoined", "RequestCompleted"]),
    ):
        events = shown(here, "--request", id)
        assert {event["stream"] for event in events} == {f"request-{id}", f"flight-{owner}"}
        assert [event["type"] for event in events if event["stream"] == f"request-{id}"] == own
    assert len(shown(here, "--request", joined, "--stream", f"flight-{owner}")) == 2
    contradiction = here.llmux("events", "--request", joined, "--stream", "gateway")
    assert (contradiction.exit_code, contradiction.stdout) == (2, "")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--from", "yesterday"), 2, "--from"),
        (("--after", "-1"), 2, "--after"),
        (("--limit", "0"), 2, "--limit"),
        (("--request", "nonsense"), 1, "is no request id"),
        (("--request", "01970c4e-7f3a-7000-8000-9a3c5e7d1f20"), 1, "is in the log"),
        (("--follow", "--to", "2100-01-01"), 2, "--to"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(here: Here, args: tuple[str, ...], code: int, said: str):
    refused = here.llmux("events", *args)
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert said in refused.stderr


def test_lines_are_for_pipes_and_a_table_for_terminals(here: Here):
    lines = here.llmux("events", "--limit", "2").stdout.splitlines()
    assert [line.split()[3] for line in lines] == ["GatewayStarted", "RequestAccepted"]
    table = here.llmux("events", "--limit", "2", "--table").stdout.splitlines()
    assert table[0].split()[:2] == ["position", "recorded"]
    assert [line.split()[0] for line in table[1:]] == ["1", "2"]


def test_a_table_goes_on_in_the_same_columns_and_obeys_nothing_in_the_data():
    written = io.StringIO()
    table = EventTable(Console(file=written, width=120))
    data = '{"model":"[red]\u009b31m\u202e' + "x" * 300 + '"}'
    event = RecordedEvent(
        7, "quota-" + "x" * 60, 0, "QuotaReset", 1, "", 0, "[bold]key", "", "", data.encode(), b"", b""
    )
    table.print([event])
    table.print([event, event])
    head, *rows = written.getvalue().splitlines()
    assert head.startswith("position  recorded at")
    assert len(rows) == 3
    assert len(set(rows)) == 1
    assert all(len(row) <= 120 for row in (head, *rows))
    assert "[bold]key" in rows[0]
    assert "[red]" in rows[0]
    assert "\u009b" not in rows[0]
    assert "\u202e" not in rows[0]


def test_request_tells_the_story_in_sentences_or_as_the_endpoint_does(here: Here):
    owner, joined = here.ids
    told = here.llmux("request", joined)
    assert told.exit_code == 0
    assert f"shared its flight {owner}." in told.stdout
    assert "It was charged no tokens." in told.stdout
    assert told.stdout.splitlines()[-1].split()[-1] == "RequestCompleted"
    story = json.loads(here.llmux("request", owner, "--json").stdout)
    assert (story["id"], story["state"], story["usage"]["totalTokens"]) == (owner, "completed", 3)
    assert here.llmux("request", "x").stderr.startswith("llmux: 'x' is no request id.")
