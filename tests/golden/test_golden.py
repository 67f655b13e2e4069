"""Every log that an earlier version wrote is read for ever, and means what it meant."""

import json
import tempfile
from functools import cache
from pathlib import Path

import msgspec
import pytest

from llmux import migrations
from llmux.actors.facts import load, plain
from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import TYPES, UPCASTS, canonical, type_of
from llmux.eventstore import open_reader, verify
from tests.actors.house import house_settings, wish
from tests.golden.logs import (
    LOGS,
    SUMS,
    number_of,
    recorded_in,
    state_file,
    state_in,
    state_text,
    sum_of,
    tables_of,
    unpacked_into,
)

WRITE = "python -m tests.golden.write"
NEW_LOG = f"Add a golden log (and look at what it holds): {WRITE} log"
EVERY = pytest.mark.parametrize("golden", LOGS, ids=lambda golden: golden.name)


def present(directory: Path, golden: Path) -> Path:
    """A data directory with the log, its tables brought up to date."""
    directory.mkdir(mode=0o700)
    migrations.upgrade(unpacked_into(directory, golden))
    return directory


@cache
def events_in(golden: Path) -> list[tuple[str, int, bytes]]:
    """Type, schema and data of all its events."""
    with tempfile.TemporaryDirectory() as directory:
        return recorded_in(unpacked_into(Path(directory), golden))


# --- the logs -------------------------------------------------------------------------------------------------------


def test_golden_logs_are_there_and_never_written_again():
    assert [number_of(golden) for golden in LOGS] == list(range(1, len(LOGS) + 1))
    assert SUMS.read_text().splitlines() == [sum_of(golden) for golden in LOGS], "a golden log is never changed"


@EVERY
async def test_a_golden_log_migrates_and_its_chain_holds(tmp_path, golden):
    directory = present(tmp_path / "data", golden)
    async with open_reader(directory, Limits()) as reader:
        assert (await verify(reader)).events == len(events_in(golden))


@EVERY
async def test_a_golden_log_replays_to_its_golden_state(tmp_path, golden):
    state = await state_in(present(tmp_path / "data", golden))
    assert state_text(state) == state_file(golden).read_text(), (
        f"The facts that follow from {golden.name} are others than they were. If that is meant (a new fact, say), run\n"
        f"{WRITE} states\nand look at what has changed. If facts mean something else now, actors.facts.house.SCHEMA counts up."
    )


@EVERY
def test_a_golden_state_can_be_stored_and_loaded(golden):
    state = json.loads(state_file(golden).read_text())
    assert plain(load(state)) == state


@EVERY
async def test_a_gateway_goes_on_from_every_golden_log(tmp_path, virtual_time, golden):
    settings = house_settings(tmp_path, content_retention_days=1)
    present(settings.data_dir, golden)
    before = json.loads(state_file(golden).read_text())
    async with open_system(settings, SeededClock(77, start_ms=1_800_000_000_000), environ={}) as system:
        assert system.active_requests == 0
        with system.request(wish("still there?")) as request:
            assert (await request.answer()).text
        assert system.facts.requests.completed == before["requests"]["completed"] + 1
    async with open_reader(settings.data_dir, settings.limits) as reader:
        await verify(reader)


# --- whoever adds or changes an event or a table adds a golden log --------------------------------------------------


def test_the_newest_golden_log_has_every_event_at_its_present_schema_and_no_other_type():
    found = {(type, schema) for type, schema, _ in events_in(LOGS[-1])}
    assert found == {(name, kind.schema) for name, kind in TYPES.items()}, NEW_LOG


def test_the_newest_golden_log_has_every_field_of_every_event():
    """Fields that have their default are not written: so each must have another value somewhere."""
    found: dict[str, set[str]] = {}
    for type, _, data in events_in(LOGS[-1]):
        found.setdefault(type, set()).update(json.loads(data))
    for name, kind in TYPES.items():
        assert set(kind.__struct_fields__) - found[name] == set(), f"{name}: {NEW_LOG}"


def test_the_newest_golden_log_has_the_present_tables(tmp_path):
    assert tables_of(unpacked_into(tmp_path, LOGS[-1])) == migrations.newest(), NEW_LOG


def test_every_schema_that_there_ever_was_is_in_a_golden_log():
    found = {(type, schema) for golden in LOGS for type, schema, _ in events_in(golden)}
    assert found == {(name, schema) for name, kind in TYPES.items() for schema in range(1, kind.schema + 1)}


def test_every_upcast_is_needed_by_a_golden_log_and_none_is_missing():
    found = {(type, schema) for golden in LOGS for type, schema, _ in events_in(golden)}
    needed = {(name, schema) for name, kind in TYPES.items() for schema in range(1, kind.schema)}
    assert set(UPCASTS) == needed
    assert needed <= found


def test_what_the_newest_log_holds_is_written_the_same_way_again():
    """An event of the present schema that is read and recorded anew has the very same bytes."""
    for name, _, data in events_in(LOGS[-1]):
        fact = msgspec.json.decode(data, type=TYPES[name])
        assert canonical(fact) == data
        assert type_of(fact) == name
