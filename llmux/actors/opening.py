"""Opens the gateway, or the log alone, and closes it again."""

import os
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager

import trio

from llmux import migrations
from llmux.actors.facts import Facts
from llmux.actors.fingerprints import Fingerprints, install_secret
from llmux.actors.journal import Journal
from llmux.actors.ladder import Ladder
from llmux.actors.replaying import replay
from llmux.actors.shared_answers import SharedAnswers
from llmux.actors.system import System
from llmux.clock import Clock
from llmux.config import Settings
from llmux.eventstore import FILE, Keys, Store, check_at_start, open_store, own_directory, vouched_origin
from llmux.metrics import Metrics


@asynccontextmanager
async def open_system(
    settings: Settings, clock: Clock, *, environ: Mapping[str, str] | None = None
) -> AsyncGenerator[System, None]:
    """Opens the gateway: owns the data directory, migrates, replays, closes what a crash left open, starts the actors.

    Leaving the block closes it in reverse: flights, providers, the other actors, the journal, the store. To stop in good
    order, leave the block; cancelling it from outside is a crash, after which the next start cleans up. Raises LLMuxError
    where the gateway cannot be opened, and an ExceptionGroup with whatever crashed the journal.
    """
    async with _open_log(settings, clock) as (store, facts):
        metrics = Metrics(_model_names(settings))
        journal = Journal(store, facts, settings.limits, metrics.observe)
        secret = install_secret(settings.secret, settings.data_dir, clock)
        fingerprints = Fingerprints(secret, shared=settings.cache_shared)
        shared = SharedAnswers(settings, secret, clock) if settings.redis_url else None
        system = System(settings, clock, journal, metrics, fingerprints, environ or os.environ, shared)
        raised: BaseException | None = None
        async with trio.open_nursery() as nursery:
            ladder = Ladder(nursery)
            await system.start(ladder)
            try:
                yield system
            except BaseException as error:  # raised again below, outside the nursery that would wrap it in a group
                raised = error
            await system.stop(ladder)
        if raised is not None:
            raise raised


@asynccontextmanager
async def open_journal(
    settings: Settings, clock: Clock, *, skipping: Collection[int] = ()
) -> AsyncGenerator[Journal, None]:
    """Opens the log alone, to append to it while no gateway runs.

    Unknown events at the positions `skipping` do not stop it, because they are about to be declared skipped. Raises
    DirectoryInUse while a gateway runs, and any other LLMuxError where the log cannot be opened.
    """
    async with _open_log(settings, clock, skipping) as (store, facts):
        journal = Journal(store, facts, settings.limits, lambda recorded: None)
        raised: BaseException | None = None
        async with trio.open_nursery() as nursery:
            ladder = Ladder(nursery)
            await ladder.start(journal.run)
            try:
                yield journal
            except BaseException as error:
                raised = error
            await ladder.stop()
        if raised is not None:
            raise raised


@asynccontextmanager
async def _open_log(
    settings: Settings, clock: Clock, skipping: Collection[int] = ()
) -> AsyncGenerator[tuple[Store, Facts], None]:
    """The store, which this process owns, with its tables up to date; and what follows from the log."""
    with own_directory(settings.data_dir):
        migrations.upgrade(settings.data_dir / FILE)
        keys = Keys(settings.chain_keys)
        async with open_store(settings.data_dir, clock=clock, limits=settings.limits, keys=keys) as store:
            await check_at_start(store, settings.witness)
            await vouched_origin(store)  # also where a snapshot is newer: streams go on from its versions
            yield store, await replay(store, skipping=skipping)


def _model_names(settings: Settings) -> frozenset[str]:
    return frozenset(model for each in settings.providers.values() for model in (each.default_model, *each.models))
