"""`llmux archive`, with a gateway and without one, and what is read and checked afterwards."""

import json
import re
from pathlib import Path

import pytest
import trio

from llmux.actors.opening import open_journal, open_system
from llmux.clock import SeededClock
from llmux.config import Settings
from llmux.events import CacheCleared, NewEvent
from tests.actors.house import house_settings, wish
from tests.cli.running import SCRIPTED, Here
from tests.gateway import gateway_process

EVENTS = 60
BEGAN_MS = 1_700_000_000_000  # in 2023
DAY_MS = 86_400_000


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """A log of 60 events, one a day, years ago."""
    here = Here(tmp_path / "home")

    async def write() -> None:
        clock = SeededClock(1, BEGAN_MS)
        async with open_journal(Settings(data_dir=here.data_dir), clock) as journal:
            for number in range(EVENTS):
                await journal.append(NewEvent("cache", CacheCleared(entries=number), clock.new_id(), "local"))
                clock.shift(DAY_MS)

    trio.run(write)
    return here


def positions(here: Here, *options: str) -> list[int]:
    printed = here.llmux("events", "--lines", *options)
    assert printed.exit_code == 0, printed.stderr
    return [int(line.split()[0]) for line in printed.stdout.splitlines()]


def test_the_log_is_archived_without_a_gateway_and_with_one(here: Here):
    said = here.llmux("archive", "--before", "21").stdout
    assert re.fullmatch(
        r"Archived the positions 1 to 20 \(20 events\) into:\n"
        r"  archives/events-000000000001-000000000020\.jsonl\.gz\n"
        r"They take \d+ KiB there\.\n"
        r"The database had \d+ KiB and has \d+ KiB\.\n",
        said,
    )
    with gateway_process(here.data_dir.parent, toml=SCRIPTED) as gateway:
        said = here.llmux("archive", "--before", "2023-12-25T12:00:00Z").stdout  # 40 days and a half after it began
        assert "Archived the positions 21 to 41 (21 events) into:" in said
        assert here.llmux("archive", "--before", "10").stdout.startswith(
            "Nothing to archive: the log begins after position 41"
        )
        refused = here.llmux("archive", "--before", "0d")
        assert refused.exit_code == 1
        assert re.match(
            r"llmux: before: this is within the last hour, or in the future, and the last hour stays", refused.stderr
        )
        assert "What can move now are the positions up to 60." in refused.stderr
        assert gateway.call("POST", "/claude", {"prompt": "hi"}).status == 200
        assert positions(here)[:45] == list(range(1, 46))
        page = gateway.call("GET", "/admin/events?after=18&limit=5")
        assert page.status in (200, 401, 403)
        assert here.llmux("verify", "--archives").exit_code == 0
    assert positions(here, "--after", "19", "--limit", "3") == [20, 21, 22]
    assert positions(here, "--to", "2023-11-16T00:00:00Z") == [1, 2]


def test_what_is_archived_is_verified_and_replayed(here: Here):
    before = here.llmux("replay", "--at", "30").stdout
    assert here.llmux("archive", "--before", "41").exit_code == 0
    assert here.llmux("replay", "--at", "30").stdout == before
    plain = here.llmux("verify").stdout
    assert "The chain holds: 21 events, head at position 61" in plain
    assert "The positions up to 40 are in archives, which were not looked at (--archives)." in plain
    full = here.llmux("verify", "--archives").stdout
    assert "The chain holds: 61 events, head at position 61" in full
    assert "1 archive checked, and the state at the end of each." in full
    assert "21 events" in here.llmux("verify", "--archives", "--from", "41").stdout
    refused = here.llmux("verify", "--from", "7")
    assert refused.exit_code == 2
    assert "the positions up to 40 are in archives; to check them, add --archives" in refused.stderr


def test_a_missing_or_changed_archive_is_a_sentence(here: Here):
    assert here.llmux("archive", "--before", "41").exit_code == 0
    (archive,) = (here.data_dir / "archives").iterdir()
    content = archive.read_bytes()
    archive.unlink()
    sentence = (
        "llmux: The positions 1 to 40 are in archives/events-000000000001-000000000040.jsonl.gz, which is not there. "
        "Put it back, or begin after 40.\n"
    )
    for command in (("events",), ("replay", "--at", "30"), ("verify", "--archives")):
        refused = here.llmux(*command)
        assert (refused.exit_code, refused.stderr) == (1, sentence)
    assert here.llmux("replay").exit_code == 0
    assert here.llmux("verify").exit_code == 0
    assert positions(here, "--after", "40", "--limit", "1") == [41]
    archive.write_bytes(content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:])
    broken = here.llmux("verify", "--archives")
    assert broken.exit_code == 1
    assert broken.stderr.startswith("The chain is broken. ")


def test_archived_requests_are_simulated_as_if_they_were_not(tmp_path: Path):
    here = Here(tmp_path)

    async def live() -> None:
        async with open_system(house_settings(tmp_path), SeededClock(1, BEGAN_MS), environ={}) as system:
            for number in range(8):
                with system.request(wish(f"{number}")) as request:
                    await request.answer()

    trio.run(live)
    typed = ("simulate", "--weights", "alpha=1,beta=99", "--to", "33", "--json")
    before = here.llmux(*typed).stdout
    assert json.loads(before)["accepted"] == 8
    assert here.llmux("archive", "--before", "20").exit_code == 0
    assert here.llmux(*typed).stdout == before
    next((tmp_path / "data" / "archives").iterdir()).unlink()
    partly = here.llmux(*typed)
    assert json.loads(partly.stdout)["accepted"] < 8
    assert "which is not there" in partly.stderr
    assert "What is simulated begins after position 19." in partly.stderr


def test_nonsense_is_refused_before_anything_is_opened(here: Here):
    for nonsense in ("soon", "30x", "-4"):
        refused = here.llmux("archive", "--before", nonsense)
        assert refused.exit_code == 2
        assert "write " in refused.stderr
    assert here.llmux("archive").exit_code == 2
    assert not (here.data_dir / "archives").exists()
