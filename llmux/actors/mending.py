"""What only the owner of the log decides, and only while no gateway runs: that it goes on under another key, or after a loss."""

from collections.abc import Awaitable, Callable

import msgspec

from llmux import migrations
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import ChainKeyChanged, Event, GatewayStarted, LossAccepted, NewEvent
from llmux.eventstore import (
    FILE,
    Append,
    Keys,
    Reader,
    Store,
    check_at_start,
    check_end,
    check_witness,
    forget_lost_positions,
    key_at_end,
    open_store,
    own_directory,
    read_witness,
)
from llmux.failures import ConfigurationWrong, LLMuxError, TailMissing

Check = Callable[[Reader, Keys], Awaitable[object]]


class Rekeyed(msgspec.Struct, frozen=True):
    """From `position` on the log is under the key `after`; before it was under `before` ("" = none)."""

    position: int
    before: str
    after: str


async def rekey(settings: Settings, clock: Clock, check: Check, *, lost: bool = False) -> Rekeyed | None:
    """Goes on under the key that is set now, from a new event on; None when the log is under it already.

    `check` verifies the log under the earlier keys first, and raises when it is not whole. With `lost` the key before is not
    there any more, so nothing is checked. Raises DirectoryInUse, ConfigurationWrong without a key, ChainKeyWrong when the log
    is under a key that is not known, LogDamaged.
    """
    keys = Keys(settings.chain_keys)
    if not keys.name:
        raise ConfigurationWrong(
            "There is no key to go on under. Set LLMUX_CHAIN_KEY or LLMUX_CHAIN_KEY_FILE: the keys of the log in their order, "
            "separated by blanks, the new one last. (A log that has a key keeps having one.)"
        )
    with own_directory(settings.data_dir):
        migrations.upgrade(settings.data_dir / FILE)
        async with open_store(
            settings.data_dir, clock=clock, limits=settings.limits, keys=keys, rekeying=True
        ) as store:
            await check_at_start(store, settings.witness)
            before = await key_at_end(store, keys)
            if before == keys.name:
                return None
            if before is None and not lost:
                await check_end(store, keys)  # says what is wrong
            if not lost:
                await check(store, keys.earlier)
            fact = ChainKeyChanged(before=await _said(store) if before is None else before, after=keys.name, lost=lost)
            await _append(store, "log-keys", fact, clock)
            await store.witness(settings.witness)
            return Rekeyed(store.head.position, fact.before, fact.after)


async def accept_loss(settings: Settings, clock: Clock, reason: str) -> LossAccepted | None:
    """Goes on with a log whose end is not the one that was witnessed, and records that; None when nothing is missing.

    Raises DirectoryInUse, ChainKeyWrong, StoreFailure.
    """
    witness = read_witness(settings.witness)
    keys = Keys(settings.chain_keys)
    with own_directory(settings.data_dir):
        migrations.upgrade(settings.data_dir / FILE)
        async with open_store(settings.data_dir, clock=clock, limits=settings.limits, keys=keys) as store:
            try:
                await check_witness(store, witness)
            except TailMissing:
                pass
            else:
                return None
            head, (_, ever) = store.head, await store.ends()
            fact = LossAccepted(
                position=head.position,
                head=head.hash.hex(),
                last_position=max(ever, head.position),
                witnessed_position=witness.position if witness else 0,
                witnessed_head=witness.hash if witness else "",
                reason=reason,
            )
            await _append(store, "log-losses", fact, clock)
            await store.witness(settings.witness)
        forget_lost_positions(settings.data_dir)  # the last step: until it is done, the loss counts as not accepted
        return fact


async def _append(store: Store, stream: str, fact: Event, clock: Clock) -> None:
    (outcome,) = await store.append([Append((NewEvent(stream, fact, clock.new_id(), principal="admin"),))])
    if isinstance(outcome, LLMuxError):
        raise outcome


async def _said(store: Store) -> str:
    """The name of the last key that the log itself says it went on under."""
    for event in await store.read(types=("ChainKeyChanged", "GatewayStarted"), newest_first=True, limit=1):
        fact = event.fact
        return (
            fact.chain if isinstance(fact, GatewayStarted) else fact.after if isinstance(fact, ChainKeyChanged) else ""
        )
    return ""
