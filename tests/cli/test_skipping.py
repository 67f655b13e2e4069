"""An event that this version cannot read stops the start, until somebody declares that it means nothing."""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from llmux import events
from llmux.eventstore import own_directory
from tests.cli.typed import json_of, refused, said, typed
from tests.eventstore.logs import new, one, opened
from tests.gateway import gateway_process
from tests.test_cli import SCRIPTED, serve_refused, the_sentence


@contextmanager
def the_future() -> Iterator[type[events.Event]]:
    """Inside the block this version knows an event of a later one."""

    class FromTheFuture(events.Event, frozen=True, kw_only=True):
        schema = 3
        what: str

    events.catalogue._NAMES[FromTheFuture] = "FromTheFuture"
    try:
        yield FromTheFuture
    finally:
        del events.catalogue._NAMES[FromTheFuture]


def log_with_the_unknown(directory: Path, unknown: int = 1) -> Path:
    """A log of known events, of which the second one, and so many in all, are unknown."""
    data = directory / "data"
    data.mkdir(mode=0o700)

    async def write() -> None:
        with the_future() as kind:
            async with opened(data) as store:
                await store.append([one("cache", 1)])
                for number in range(unknown):
                    event = new("future")
                    fact = kind(what=str(number))
                    await store.append([type(one())((events.NewEvent("future", fact, event.event_id),))])
                await store.append([one("cache", 2)])

    trio.run(write)
    return data


def serve(data: Path) -> subprocess.CompletedProcess[str]:
    return serve_refused(data.parent, LLMUX_DATA_DIR=str(data), PORT="0")


def test_an_unknown_event_stops_the_start_and_is_skipped_by_the_command_it_names(tmp_path: Path):
    data = log_with_the_unknown(tmp_path)
    stopped = serve(data)
    assert stopped.returncode == 1
    sentence = the_sentence(stopped)
    assert "Position 2 holds a FromTheFuture of schema 3, which this version cannot read." in sentence
    command = sentence[sentence.index("llmux events skip") :].replace("'...'", "it is only an experiment")
    _, *words = command.split(maxsplit=5)
    assert words[:4] == ["events", "skip", "2", "--reason"]
    assert "Position 2 holds" in refused(data, "replay")
    told = said(data, *words[:4], words[4])
    assert told == (
        "Position 2 (a FromTheFuture of schema 3) is skipped from now on: position 4 of the log says so, and why.\n"
    )
    (recorded,) = said(data, "events", "--json", "--stream", "log-skips").splitlines()
    assert '"data":{"reason":"it is only an experiment","skipped":2}' in recorded
    assert '"principal":"admin"' in recorded
    assert json_of(data, "replay")["log"]["skipped"] == 1
    assert "The chain holds" in typed(data, "verify").output
    with gateway_process(tmp_path, toml=SCRIPTED, LLMUX_DATA_DIR=str(data)) as gateway:
        assert gateway.call("GET", "/health").status == 200
        assert gateway.stop() == 0


def test_several_unknown_events_are_skipped_one_by_one(tmp_path: Path):
    data = log_with_the_unknown(tmp_path, unknown=3)
    assert "This version cannot read positions 2, 4 either." in said(data, "events", "skip", "3", "--reason", "x")
    assert "This version cannot read position 4 either." in said(data, "events", "skip", "2", "--reason", "x")
    assert "either" not in said(data, "events", "skip", "4", "--reason", "x")
    assert json_of(data, "replay")["log"]["skipped"] == 3


@pytest.mark.parametrize(
    ("position", "sentence"),
    [
        ("1", "llmux: The event at position 1 can be read, so there is nothing to skip."),
        ("4", "llmux: There is no event at position 4: the log ends at 3."),
        ("0", "0 is not in the range 1<=x"),
    ],
)
def test_what_need_not_or_cannot_be_skipped_is_a_sentence_and_no_event(tmp_path: Path, position: str, sentence: str):
    data = log_with_the_unknown(tmp_path)
    assert sentence in refused(data, "events", "skip", position, "--reason", "x")
    assert len(said(data, "events", "--json").splitlines()) == 3


def test_nothing_is_skipped_twice(tmp_path: Path):
    data = log_with_the_unknown(tmp_path)
    said(data, "events", "skip", "2", "--reason", "x")
    assert "Position 2 is skipped already." in refused(data, "events", "skip", "2", "--reason", "x")


def test_what_is_archived_needs_no_skipping(tmp_path: Path):
    data = log_with_the_unknown(tmp_path)
    said(data, "events", "skip", "2", "--reason", "x")
    said(data, "archive", "--before", "4")
    for file in (data / "archives").iterdir():
        file.unlink()
    assert "Position 2 is archived: the state goes on from position 3" in refused(
        data, "events", "skip", "2", "--reason", "x"
    )
    assert "can be read" in refused(data, "events", "skip", "4", "--reason", "x")


def test_a_skip_has_a_reason(tmp_path: Path):
    data = log_with_the_unknown(tmp_path)
    assert "--reason" in refused(data, "events", "skip", "2")
    assert "say why" in refused(data, "events", "skip", "2", "--reason", "  ")


def test_nothing_is_skipped_while_somebody_else_owns_the_log(tmp_path: Path):
    data = log_with_the_unknown(tmp_path)
    with own_directory(data):
        assert "in use by process" in refused(data, "events", "skip", "2", "--reason", "x")
    connection = sqlite3.connect(data / "events.db")
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (3,)
    connection.close()
