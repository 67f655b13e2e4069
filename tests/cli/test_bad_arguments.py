"""What is typed wrong is a sentence, and nothing of our own log gets into a command's output."""

import json
from pathlib import Path

import pytest
import trio

from llmux.actors.opening import open_system
from llmux.clock import SystemClock
from tests.actors.house import house_settings
from tests.cli.typed import golden_log, typed
from tests.golden.logs import LOGS


@pytest.mark.parametrize(
    "arguments",
    [
        ("events", "--after", str(10**20)),
        ("events", "--until", str(2**63)),
        ("events", "skip", str(10**20), "--reason", "x"),
        ("events", "--stream", "\udcff"),
        ("keys", "revoke", "\udcff"),
        ("backup", "\udcff"),
        ("forget", "--request", "\udcff"),
        ("request", "\udcff"),
        ("verify", "--from", str(10**20)),
        ("replay", "--at", str(10**20)),
        ("archive", "--before", str(10**20)),
        ("simulate", "--weights", "\udcff=1"),
        ("usage", "--from", "\udcff"),
    ],
)
def test_a_wrong_argument_is_a_sentence(tmp_path: Path, arguments: tuple[str, ...]):
    done = typed(golden_log(tmp_path, LOGS[-1]), *arguments)
    assert done.exit_code != 0
    assert "Traceback" not in done.output + done.stderr
    assert done.stderr.strip()
    assert not done.stdout.strip()


def test_a_type_that_is_misspelled_is_told(tmp_path: Path):
    done = typed(golden_log(tmp_path, LOGS[-1]), "events", "--type", "RequestAcepted", "--json")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no event that is called 'RequestAcepted'" in done.stderr


def test_warnings_stay_out_of_a_commands_output(tmp_path: Path):
    async def live() -> None:
        async with open_system(house_settings(tmp_path), SystemClock(), environ={}):
            pass

    trio.run(live)
    (snapshot,) = (tmp_path / "data" / "snapshots").iterdir()
    snapshot.write_bytes(b"not what it was")
    done = typed(tmp_path / "data", "replay", "--actor", "cache", "--json")
    assert done.exit_code == 0
    json.loads(done.stdout)
    assert "a snapshot is not what the log says" in done.stderr
