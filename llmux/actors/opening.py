"""Opens the gateway and closes it again; and folds a log without opening one."""

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import trio

from llmux import migrations
from llmux.actors.facts import EMPTY, Facts, evolve
from llmux.actors.fingerprints import Fingerprints, install_secret
from llmux.actors.journal import Journal
from llmux.actors.ladder import Ladder
from llmux.actors.system import System
from llmux.clock import Clock
from llmux.config import Settings
from llmux.eventstore import FILE, Reader, open_store, own_directory
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
    limits = settings.limits
    with own_directory(settings.data_dir):
        migrations.upgrade(settings.data_dir / FILE)
        async with open_store(settings.data_dir, clock=clock, limits=limits) as store:
            facts = await replay(store, limits.read_rows_max)
            metrics = Metrics(_model_names(settings))
            journal = Journal(store, facts, limits, metrics.observe)
            secret = install_secret(settings.secret, settings.data_dir, clock)
            system = System(settings, clock, journal, metrics, Fingerprints(secret), environ or os.environ)
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


async def replay(reader: Reader, page: int, *, until: int | None = None) -> Facts:
    """The facts that follow from the log, up to and including position `until`. Raises UnknownEvent."""
    facts = EMPTY
    while until is None or facts.position < until:
        rows = page if until is None else min(page, until - facts.position)
        recorded = await reader.read(after=facts.position, limit=rows)
        if not recorded:
            break
        facts = evolve(facts, recorded)
    return facts


def _model_names(settings: Settings) -> frozenset[str]:
    return frozenset(model for each in settings.providers.values() for model in (each.default_model, *each.models))
