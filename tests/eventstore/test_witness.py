"""The witness: an end that is missing, or another one, is noticed from outside the database."""

import os
import sqlite3
from pathlib import Path

import pytest

from llmux.config import Limits
from llmux.eventstore import (
    EMPTY,
    Head,
    Witness,
    check_at_start,
    check_witness,
    open_reader,
    read_witness,
    write_witness,
)
from llmux.failures import ConfigurationWrong, StoreFailure, TailMissing
from tests.eventstore.archived import archive, files
from tests.eventstore.logs import opened, tampered, written


async def checked(directory: Path) -> None:
    assert await compared(directory)


async def compared(directory: Path) -> bool:
    async with open_reader(directory, Limits()) as reader:
        return await check_witness(reader, read_witness(directory / "witness.json"))


async def witnessed(directory: Path, events: int = 30) -> Path:
    """A log of that many events, whose head is witnessed."""
    await written(directory, events)
    async with opened(directory) as store:
        await store.witness(directory / "witness.json")
    return directory / "witness.json"


async def test_a_witness_says_where_the_log_ended(tmp_path: Path) -> None:
    path = await witnessed(tmp_path)
    async with opened(tmp_path) as store:
        found = read_witness(path)
        assert found is not None
        assert found.head == store.head
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.glob("witness*")] == ["witness.json"]
    await checked(tmp_path)


async def test_a_log_that_went_on_is_well(tmp_path: Path) -> None:
    await witnessed(tmp_path)
    await written(tmp_path, 5)
    await checked(tmp_path)


async def test_a_log_without_a_witness_is_well_and_an_empty_one_too(tmp_path: Path) -> None:
    await written(tmp_path, 0)
    await checked(tmp_path)
    write_witness(tmp_path / "witness.json", EMPTY, 0)
    await checked(tmp_path)


@pytest.mark.parametrize(
    ("left", "said"), [(29, "one event is missing"), (12, "18 events are missing"), (0, "30 events are")]
)
async def test_a_tail_that_was_cut_off_is_named_although_sqlite_was_made_to_forget_it(
    tmp_path: Path, left: int, said: str
) -> None:
    await witnessed(tmp_path)
    tampered(tmp_path, f"DELETE FROM events WHERE position > {left}", f"UPDATE sqlite_sequence SET seq = {left}")
    with pytest.raises(TailMissing, match=f"ends at position {left}, .* witnessed at position 30: {said}") as missing:
        await checked(tmp_path)
    assert missing.value.position == left + 1


async def test_a_tail_that_was_cut_off_after_the_witness_is_named_by_what_sqlite_remembers(tmp_path: Path) -> None:
    await witnessed(tmp_path)
    await written(tmp_path, 5)
    tampered(tmp_path, "DELETE FROM events WHERE position > 32")
    with pytest.raises(TailMissing, match="ends at position 32, but its last position was 35 once") as missing:
        await checked(tmp_path)
    assert missing.value.position == 33


async def test_a_log_that_was_written_anew_is_named(tmp_path: Path) -> None:
    path = await witnessed(tmp_path)
    for file in tmp_path.glob("events.db*"):
        file.unlink()
    await written(tmp_path, 40)
    with pytest.raises(TailMissing, match="Position 30 has another hash") as missing:
        await checked(tmp_path)
    assert missing.value.position == 30
    path.unlink()
    await checked(tmp_path)


async def archived(directory: Path, *through: int) -> None:
    """Moves the log up to these positions into archives, one file each."""
    async with opened(directory) as store:
        for position in through:
            await archive(store, position)


@pytest.mark.parametrize("parts", [(30,), (40,), (20, 40), (40, 50)], ids=str)
async def test_a_witnessed_end_that_is_archived_by_now_is_compared_in_its_archive(
    tmp_path: Path, parts: tuple[int, ...]
) -> None:
    await witnessed(tmp_path)
    await written(tmp_path, 30)
    await archived(tmp_path, *parts)
    await checked(tmp_path)


@pytest.mark.parametrize("parts", [(30,), (40,), (20, 40), (40, 50)], ids=str)
async def test_a_log_that_was_written_anew_and_archived_past_its_witness_is_named(
    tmp_path: Path, parts: tuple[int, ...]
) -> None:
    await witnessed(tmp_path)
    for file in tmp_path.glob("events.db*"):
        file.unlink()
    await written(tmp_path, 60)
    await archived(tmp_path, *parts)
    with pytest.raises(TailMissing, match="Position 30 has another hash") as missing:
        await compared(tmp_path)
    assert missing.value.position == 30
    async with opened(tmp_path) as store:
        with pytest.raises(TailMissing, match="llmux restore"):
            await check_at_start(store, tmp_path / "witness.json")


async def test_an_archive_that_is_not_the_one_of_the_log_is_not_believed(tmp_path: Path) -> None:
    """Whoever writes the log anew may leave the old archive in its place: it has the right hash, and is of another log."""
    await witnessed(tmp_path)
    await written(tmp_path, 30)
    await archived(tmp_path, 40)
    (genuine,) = files(tmp_path)
    content = genuine.read_bytes()
    for file in (*tmp_path.glob("events.db*"), genuine):
        file.unlink()
    await written(tmp_path, 60)
    await archived(tmp_path, 40)
    genuine.write_bytes(content)
    assert not await compared(tmp_path)


@pytest.mark.parametrize("what", ["missing", "cut", "rubbish"])
async def test_a_witness_that_cannot_be_compared_is_no_comparison_and_is_told_at_the_start(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await witnessed(tmp_path)
    await written(tmp_path, 30)
    await archived(tmp_path, 40)
    (file,) = files(tmp_path)
    if what == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:300] if what == "cut" else b"rubbish" * 100)
    assert not await compared(tmp_path)
    async with opened(tmp_path) as store:
        await check_at_start(store, tmp_path / "witness.json")
    printed = "".join(capsys.readouterr())
    assert "the witness could not be compared" in printed
    assert "30" in printed


async def test_without_its_archive_a_witnessed_end_is_compared_with_what_the_log_says_of_it(tmp_path: Path) -> None:
    path = await witnessed(tmp_path)
    await archived(tmp_path, 30)
    await written(tmp_path, 5)
    async with opened(tmp_path) as store:
        await archive(store, 31)  # the fact about the first archive is in the second one now
        await archive(store, 36)
    found = read_witness(path)
    assert found is not None
    for file in files(tmp_path):
        file.unlink()
    assert not await compared(tmp_path)
    async with opened(tmp_path) as store:
        for fact in [event.fact for event in await store.read(types=("LogArchived",), limit=9, archived=False)]:
            assert await check_witness(store, Witness(fact.through, fact.head, 0))
            if fact.through < 36:
                with pytest.raises(TailMissing, match=f"Position {fact.through} has another hash"):
                    await check_witness(store, Witness(fact.through, "ab" * 32, 0))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"null",
        b"\xff",
        b'{"position":1,"hash":"00","at":1}',
        b'{"position":-1,"hash":"' + b"0" * 64 + b'","at":1}',
    ],
)
def test_what_is_no_witness_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "witness.json").write_bytes(content)
    with pytest.raises(ConfigurationWrong, match="is no witness of a log"):
        read_witness(tmp_path / "witness.json")


def test_a_crash_while_the_witness_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "witness.json"
    write_witness(path, Head(1, bytes(32)), 5)

    def crash(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(SystemExit):
        write_witness(path, Head(2, bytes(32)), 6)
    monkeypatch.undo()
    found = read_witness(path)
    assert found is not None
    assert found.position == 1
    assert write_witness(path, Head(3, bytes(32)), 7) == read_witness(path)


async def test_a_witness_that_cannot_be_written_is_a_failure_of_the_store(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(StoreFailure, match="cannot be witnessed in"):
            await store.witness(tmp_path / "missing" / "witness.json")


async def test_the_room_that_the_log_takes_counts_no_free_pages(tmp_path: Path) -> None:
    await written(tmp_path, 2_000, batch=200)
    connection = sqlite3.connect(tmp_path / "events.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    async with opened(tmp_path) as store:
        full = await store.used_bytes()
        assert full == (tmp_path / "events.db").stat().st_size
        await store.append([])
    tampered(tmp_path, "DELETE FROM events WHERE position < 1900", "PRAGMA wal_checkpoint(TRUNCATE)")
    async with opened(tmp_path) as store:
        assert await store.used_bytes() < full / 4
        assert (tmp_path / "events.db").stat().st_size == full
