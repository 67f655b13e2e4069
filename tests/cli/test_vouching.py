"""A stored state is never trusted for its own sake: the log itself must name its hash, or nothing starts and nothing is shown."""

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.actors.opening import open_journal
from llmux.clock import SeededClock
from llmux.config import Settings
from llmux.events import CacheCleared, KeyIssued, KeyRevoked, NewEvent
from llmux.failures import LogDamaged
from tests.cli.running import Here
from tests.eventstore.archived import files, rewritten
from tests.eventstore.logs import foreign

BEGAN_MS = 1_700_000_000_000  # in 2023
KEY = "7e57ab1e"


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """A log whose key was revoked years ago; two archives hold the beginning of it, and no snapshot is there."""
    here = Here(tmp_path / "home")
    issued = KeyIssued(key_id=KEY, secret_sha256="ab" * 32, user="ann", project="p")

    async def write() -> None:
        clock = SeededClock(1, BEGAN_MS)
        async with open_journal(Settings(data_dir=here.data_dir), clock) as journal:
            for stream, fact in ((f"key-{KEY}", issued), (f"key-{KEY}", KeyRevoked(key_id=KEY))):
                await journal.append(NewEvent(stream, fact, clock.new_id(), "admin"))
            for number in range(20):
                await journal.append(NewEvent("cache", CacheCleared(entries=number), clock.new_id(), "local"))

    trio.run(write)
    for position in ("11", "21"):
        assert here.llmux("archive", "--before", position).exit_code == 0
    assert here.llmux("verify", "--archives").exit_code == 0
    return here


def serve(here: Here) -> subprocess.CompletedProcess[str]:
    """`llmux serve`, which is to end by itself."""
    environ = {name: value for name, value in {**os.environ, **here.environ}.items() if value is not None}
    command = [sys.executable, "-m", "llmux", "serve"]
    return subprocess.run(command, env={**environ, "PORT": "0"}, capture_output=True, text=True, timeout=20)


def forged(here: Here, change: Callable[[dict[str, Any]], object]) -> None:
    """Edits the state that archiving left, as somebody would who has the file."""
    connection = foreign(here.data_dir)
    (stored,) = connection.execute("SELECT state FROM origin").fetchone()
    state = json.loads(zlib.decompress(stored))
    change(state)
    content = json.dumps(state, sort_keys=True, separators=(",", ":")).encode()
    connection.execute("UPDATE origin SET state = ?", (zlib.compress(content),))
    connection.close()


def set_free(state: dict[str, Any]) -> None:
    assert state["keys"][KEY]["revoked_at"] is not None
    state["keys"][KEY]["revoked_at"] = None


def refused(here: Here, *command: str) -> str:
    result = here.llmux(*command)
    assert result.exit_code == 1, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_revoked_key_stays_revoked_whoever_edits_the_state_that_archiving_left(here: Here):
    forged(here, set_free)
    sentence = "The state that the log goes on from is not the one that was sealed."
    started = serve(here)
    assert started.returncode == 1
    assert sentence in started.stderr
    assert "Traceback" not in started.stderr
    for command in (
        ("replay", "--actor", "keys"),
        ("replay", "--at", "21"),
        ("simulate",),
        ("archive", "--before", "22"),
        ("verify",),
    ):
        assert sentence in refused(here, *command), command
    assert "The state that the log goes on from is not the one in " in refused(here, "verify", "--archives")


def test_the_state_of_a_past_moment_comes_from_no_archive_that_the_log_does_not_name(here: Here):
    rewritten(files(here.data_dir)[0], lambda lines: [*lines[:-1], _without_revocation(lines[-1])])
    assert "is not the one that was sealed" in refused(here, "replay", "--at", "10")
    assert "is not the one that was sealed" in refused(here, "replay", "--at", "13", "--actor", "keys")
    assert here.llmux("replay").exit_code == 0  # the state at the end rests on the other archive
    assert here.llmux("replay", "--at", "9").exit_code == 0  # from the events themselves


def _without_revocation(line: bytes) -> bytes:
    ending = json.loads(line)
    set_free(ending["state"])
    return json.dumps(ending, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _with_other_versions(line: bytes) -> bytes:
    ending = json.loads(line)
    ending["streams"]["cache"] += 100
    return json.dumps(ending, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE origin SET state_schema = state_schema - 1", "not the one that was sealed"),
        ("UPDATE origin SET state_schema = state_schema + 1", "not the one that was sealed"),
        ("UPDATE origin SET streams = '{}'", "versions of the streams"),
        ("""UPDATE origin SET streams = replace(streams, '"cache":', '"cache":10')""", "versions of the streams"),
        (f"""UPDATE origin SET streams = replace(streams, '"key-{KEY}"', '"key-other"')""", "versions of the streams"),
    ],
)
def test_how_the_state_is_read_and_where_its_streams_go_on_is_sealed_too(here: Here, statement: str, said: str):
    connection = foreign(here.data_dir)
    connection.execute(statement)
    connection.close()
    with pytest.raises(LogDamaged, match=said):
        trio.run(_start, here)
    for command in (("replay",), ("verify",)):
        assert said in refused(here, *command), command
    assert "The state that the log goes on from is not the one in " in refused(here, "verify", "--archives")


def test_an_archive_whose_versions_were_changed_is_not_the_one_that_the_log_says(here: Here):
    rewritten(files(here.data_dir)[0], lambda lines: [*lines[:-1], _with_other_versions(lines[-1])])
    assert "The versions of the streams in " in refused(here, "replay", "--at", "10")
    assert "The versions of the streams in " in refused(here, "verify", "--archives", "--from", "11")


async def _start(here: Here) -> None:
    async with open_journal(Settings(data_dir=here.data_dir), SeededClock(2, BEGAN_MS)):
        pass
