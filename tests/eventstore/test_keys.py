"""The key of the chain: what an attacker can do who has the file and knows SHA-256, and what the owner is told."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llmux.config import Limits
from llmux.events import ChainKeyChanged, GatewayStarted, NewEvent
from llmux.eventstore import NO_KEYS, Keys, Verified, open_reader, open_store, verify
from llmux.eventstore.append import Append
from llmux.eventstore.chain import GENESIS, hash_of
from llmux.eventstore.table import event_of, row_of
from llmux.failures import ChainKeyWrong, LogDamaged
from llmux.migrations import upgrade
from tests.eventstore.logs import CLOCK, changed, foreign, one, tampered

OLD, NEW, OTHER = "the old key of the log", "the new key of the log", "somebody else's key"


def started(keys: Keys) -> Append:
    return Append((NewEvent("gateway", GatewayStarted(version="1", routing={}, chain=keys.name), CLOCK.new_id()),))


def turned(before: Keys, after: Keys) -> Append:
    return Append((NewEvent("log-keys", ChainKeyChanged(before=before.name, after=after.name), CLOCK.new_id()),))


async def grown(directory: Path, keys: Keys, events: int = 9, first: Append | None = None) -> None:
    """A gateway with these keys starts and records so many events more."""
    upgrade(directory / "events.db")
    rekeying = first is not None
    async with open_store(directory, clock=CLOCK, limits=Limits(), keys=keys, rekeying=rekeying) as store:
        await store.append([first or started(keys), *(one(f"stream-{n % 3}", n) for n in range(events))])


async def verified(directory: Path, *texts: str, first: int | None = None) -> Verified:
    async with open_reader(directory, Limits()) as reader:
        return await verify(reader, keys=Keys(texts), first=first)


def forge(directory: Path, change: Callable[[list], Sequence], key: bytes | None = None) -> None:
    """Writes the log anew with other events, and hashes that fit: all that can be done without the key, or with `key`."""
    connection = foreign(directory)
    events = [event_of(row) for row in connection.execute("SELECT * FROM events ORDER BY position")]
    connection.close()
    before, statements = GENESIS, ["DELETE FROM events"]
    for event in change(events):
        forged = changed(event, prev_hash=before)
        before = hash_of(forged, key)
        row = row_of(changed(forged, hash=before))
        statements.append(f"INSERT INTO events VALUES ({', '.join(map(_literal, row))})")
    tampered(directory, *statements)


def _literal(value: int | str | bytes) -> str:
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


async def test_a_log_under_a_key_from_its_first_event_is_whole_with_that_key(tmp_path: Path) -> None:
    await grown(tmp_path, Keys([NEW]))
    await grown(tmp_path, Keys([NEW]))
    result = await verified(tmp_path, NEW)
    assert (result.events, result.key) == (20, Keys([NEW]).name)
    assert (await verified(tmp_path, NEW, first=7)).events == 14


async def test_without_the_key_verify_says_what_it_cannot_check(tmp_path: Path) -> None:
    await grown(tmp_path, Keys([NEW]))
    with pytest.raises(
        ChainKeyWrong, match=f"Positions 1 to 10 are hashed with the key {Keys([NEW]).name}. Set LLMUX"
    ) as wrong:
        await verified(tmp_path)
    assert wrong.value.position == 1
    with pytest.raises(ChainKeyWrong, match="what is set is hmac:"):
        await verified(tmp_path, OTHER)
    with pytest.raises(LogDamaged, match="may be under a chain key that is not set"):
        await verified(tmp_path, first=5)


async def test_without_the_key_broken_links_are_still_noticed(tmp_path: Path) -> None:
    await grown(tmp_path, Keys([NEW]))
    tampered(tmp_path, "UPDATE events SET hash = zeroblob(32) WHERE position = 6")
    with pytest.raises(LogDamaged) as damage:
        await verified(tmp_path)
    assert damage.value.position == 7


async def test_who_has_no_key_cannot_change_an_event_and_make_the_hashes_fit(tmp_path: Path) -> None:
    await grown(tmp_path, Keys([NEW]))
    forge(tmp_path, lambda events: [changed(e, principal="mallory") if e.position == 4 else e for e in events])
    with pytest.raises(ChainKeyWrong, match="last one, at position 10, is not hashed with the chain key that is set"):
        await verified(tmp_path, NEW)
    with pytest.raises(ChainKeyWrong, match="somebody has written the log anew"):
        async with open_store(tmp_path, clock=CLOCK, limits=Limits(), keys=Keys([NEW])):
            pass


async def test_without_a_key_the_same_forgery_passes(tmp_path: Path) -> None:
    """What the key is for: a chain of plain hashes is evidence only for who has kept a hash elsewhere."""
    await grown(tmp_path, NO_KEYS)
    forge(tmp_path, lambda events: [changed(e, principal="mallory") if e.position == 4 else e for e in events])
    assert (await verified(tmp_path)).events == 10


@pytest.mark.parametrize("position", [3, 10, 11, 15, 20])
async def test_a_change_before_or_after_the_key_came_is_noticed_at_its_position(tmp_path: Path, position: int) -> None:
    await grown(tmp_path, NO_KEYS)
    await grown(tmp_path, Keys([NEW]), first=turned(NO_KEYS, Keys([NEW])))
    assert (await verified(tmp_path, NEW)).key == Keys([NEW]).name
    tampered(tmp_path, f"UPDATE events SET principal = 'mallory' WHERE position = {position}")
    with pytest.raises(LogDamaged) as damage:
        await verified(tmp_path, NEW)
    assert damage.value.position == position


async def test_an_event_without_the_key_does_not_fit_after_one_with_it(tmp_path: Path) -> None:
    await grown(tmp_path, Keys([NEW]))
    async with open_store(tmp_path, clock=CLOCK, limits=Limits(), rekeying=True) as store:
        await store.append([one("mallory")])
    with pytest.raises(LogDamaged) as damage:
        await verified(tmp_path, NEW)
    assert damage.value.position == 11


async def test_a_key_that_took_the_place_of_another_needs_both(tmp_path: Path) -> None:
    await grown(tmp_path, NO_KEYS)
    await grown(tmp_path, Keys([OLD]), first=turned(NO_KEYS, Keys([OLD])))
    await grown(tmp_path, Keys([OLD, NEW]), first=turned(Keys([OLD]), Keys([OLD, NEW])))
    result = await verified(tmp_path, OLD, NEW)
    assert (result.events, result.key) == (30, Keys([NEW]).name)
    with pytest.raises(ChainKeyWrong, match=f"Positions 11 to 30 are hashed with the key {Keys([OLD]).name}"):
        await verified(tmp_path, NEW)
    with pytest.raises(ChainKeyWrong, match=f"Positions 21 to 30 are hashed with the key {Keys([NEW]).name}"):
        await verified(tmp_path, OLD)
    with pytest.raises(LogDamaged) as damage:  # the wrong way round: a log never goes back to an earlier key
        await verified(tmp_path, NEW, OLD)
    assert damage.value.position == 21


async def test_who_has_only_an_earlier_key_cannot_go_on_with_it(tmp_path: Path) -> None:
    await grown(tmp_path, Keys([OLD]))
    await grown(tmp_path, Keys([OLD, NEW]), first=turned(Keys([OLD]), Keys([OLD, NEW])))
    async with open_store(tmp_path, clock=CLOCK, limits=Limits(), keys=Keys([OLD]), rekeying=True) as store:
        await store.append([one("mallory")])
    with pytest.raises(LogDamaged) as damage:
        await verified(tmp_path, OLD, NEW)
    assert damage.value.position == 21


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ((), "LLMUX_CHAIN_KEY is not set, but the last event of the log, at position 10, is under another key"),
        ((OTHER,), "LLMUX_CHAIN_KEY is set .* is under another key, or was changed"),
        ((NEW, OTHER), "gone on under hmac:[0-9a-f]{16} up to its end, at position 10. .* type: llmux rekey"),
    ],
)
async def test_a_log_goes_on_only_under_the_key_it_ends_with(
    tmp_path: Path, texts: tuple[str, ...], sentence: str
) -> None:
    await grown(tmp_path, Keys([NEW]))
    with pytest.raises(ChainKeyWrong, match=sentence):
        await grown(tmp_path, Keys(texts))
    assert (await verified(tmp_path, NEW)).events == 10


async def test_a_repeated_append_is_recognised_under_another_key(tmp_path: Path) -> None:
    upgrade(tmp_path / "events.db")
    append = one("cache")
    async with open_store(tmp_path, clock=CLOCK, limits=Limits(), keys=Keys([OLD])) as store:
        (before,) = await store.append([append])
    async with open_store(tmp_path, clock=CLOCK, limits=Limits(), keys=Keys([OLD, NEW]), rekeying=True) as store:
        (again,) = await store.append([append])
    assert (again.repeated, again.events) == (True, before.events)


def test_a_key_is_nowhere_shown() -> None:
    keys = Keys([OLD, NEW])
    shown = f"{keys!r} {keys} {keys.name} {keys.names}"
    assert OLD not in shown
    assert NEW not in shown
    assert keys.names == ("", Keys([OLD]).name, Keys([NEW]).name)
    assert keys.earlier.eras == Keys([OLD]).eras
