"""Logs as a gateway writes them: requests with their attempts, now and then a fallback, a cached answer, a quota, a key."""

import random
from collections.abc import Iterator
from pathlib import Path

from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    KeyIssued,
    NewEvent,
    ProviderRestored,
    QuotaExhausted,
    QuotaReported,
    RequestAccepted,
    RequestCompleted,
    RouteTaken,
)
from llmux.eventstore import FILE, Append, Appended, Store, open_store
from llmux.migrations import upgrade
from llmux.prompts import Usage

ROUTES = [
    RouteTaken("claude", "default", "claude-opus-4-5", 50),
    RouteTaken("codex", "default", "gpt-5.1-codex", 30),
    RouteTaken("gemini", "default", "gemini-2.5-pro", 15),
    RouteTaken("ollama", "default", "llama3.2", 5),
]
BATCH_EVENTS = 1_000
BATCH_MS = 60_000
"""of wall time between two batches of a log that is made: 100,000 events are 100 minutes of a busy day"""

Group = tuple[NewEvent, ...]
"""Events that are appended together."""


class Story:
    """Makes up what happens. The same seed tells the same story."""

    def __init__(self, seed: int = 1):
        self.clock = SeededClock(seed)
        self._chance = random.Random(seed)
        self._keys = [f"k{n:07d}" for n in range(20)]

    def direct(self) -> tuple[Group, Group]:
        """A request that its first route answers: the two appends that it makes, of two events each."""
        id, key = self.clock.new_id(), self._chance.choice(self._keys)
        order = self._chance.sample(ROUTES, 4)
        begin = (self._accepted(id, key, order, "miss"), self._attempt(id, AttemptStarted(**_route(order[0]))))
        return begin, (self._succeeded(id, order[0], 1), self._completed(id, key, order[0], 1))

    def happenings(self) -> Iterator[Group]:
        """All kinds of things, for ever: per hundred requests five from the cache, ten with a fallback, two quota reports."""
        for key in self._keys:
            yield (self._new(f"key-{key}", KeyIssued(key_id=key, secret_sha256="0" * 64, user=key[-2:], project="p")),)
        while True:
            chance = self._chance.random()
            if chance < 0.05:
                yield self._cached()
            elif chance < 0.15:
                yield from self._fallback()
            else:
                yield from self.direct()
            if chance > 0.98:
                report = QuotaReported(
                    provider="claude", account="default", model="", window="5h", status="ok",
                    used_percent=self._chance.randrange(100), resets_at=self.clock.now() + 3_600_000,
                )  # fmt: skip
                yield (self._new("quota-claude", report),)

    def _cached(self) -> Group:
        id, key = self.clock.new_id(), self._chance.choice(self._keys)
        done = RequestCompleted(**_route(ROUTES[0]), attempts=0, duration_ms=1, source="cache")
        return (self._accepted(id, key, ROUTES, "hit"), self._new(f"request-{id}", done, key, id))

    def _fallback(self) -> Iterator[Group]:
        id, key = self.clock.new_id(), self._chance.choice(self._keys)
        first, second, *_ = order = self._chance.sample(ROUTES, 4)
        yield (self._accepted(id, key, order, "miss"), self._attempt(id, AttemptStarted(**_route(first))))
        failed = AttemptFailed(
            **_route(first), kind="quota_exhausted", evidence="claude.session_limit", duration_ms=800
        )
        until = self.clock.now() + 600_000
        spent = QuotaExhausted(
            provider=first.provider, account="default", model="", evidence="claude.session_limit", until=until
        )
        yield (self._new(f"quota-{first.provider}", spent),)
        yield (self._attempt(id, failed), self._attempt(id, AttemptStarted(**_route(second), number=2)))
        yield (self._succeeded(id, second, 2), self._completed(id, key, second, 2))
        back = ProviderRestored(provider=first.provider, account="default", model="")
        yield (self._new(f"quota-{first.provider}", back),)

    def _accepted(self, id: str, key: str, order: list[RouteTaken], cache: str) -> NewEvent:
        fact = RequestAccepted(
            endpoint="/v1/chat/completions",
            model="claude-opus-4-5",
            stream=True,
            fingerprint=f"{self._chance.getrandbits(128):032x}",
            prompt_bytes=self._chance.randrange(200, 200_000),
            candidates=order,
            draw=self._chance.getrandbits(32),
            cache=cache,
        )
        return self._new(f"request-{id}", fact, key, id)

    def _succeeded(self, id: str, route: RouteTaken, number: int) -> NewEvent:
        usage = Usage(input_tokens=self._chance.randrange(50, 50_000), output_tokens=self._chance.randrange(5, 4_000))
        first_ms = self._chance.randrange(300, 4_000)
        fact = AttemptSucceeded(
            **_route(route), number=number, first_chunk_ms=first_ms, duration_ms=first_ms + 9_000, usage=usage
        )
        return self._attempt(id, fact)

    def _completed(self, id: str, key: str, route: RouteTaken, attempts: int) -> NewEvent:
        usage = Usage(input_tokens=self._chance.randrange(50, 50_000), output_tokens=self._chance.randrange(5, 4_000))
        fact = RequestCompleted(
            **_route(route), attempts=attempts, duration_ms=self._chance.randrange(9_000, 14_000), usage=usage
        )
        return self._new(f"request-{id}", fact, key, id)

    def _attempt(self, id: str, fact: Event) -> NewEvent:
        return self._new(f"flight-{id}", fact, "gateway", id)

    def _new(self, stream: str, fact: Event, principal: str = "gateway", correlation_id: str = "") -> NewEvent:
        return NewEvent(stream, fact, self.clock.new_id(), principal, correlation_id)


def _route(route: RouteTaken) -> dict[str, str]:
    return {"provider": route.provider, "model": route.model}


async def written(directory: Path, events: int, seed: int = 1) -> None:
    """Makes a log of at least `events` events in the new directory, through a real store."""
    directory.mkdir(parents=True)
    upgrade(directory / FILE)
    story = Story(seed)
    happenings = story.happenings()
    async with open_store(directory, clock=story.clock, limits=Limits()) as store:
        while store.head.position < events:
            batch: list[Append] = []
            while sum(len(each.events) for each in batch) < min(BATCH_EVENTS, events - store.head.position):
                batch.append(Append(next(happenings)))
            await recorded(store, batch)
            story.clock.shift(BATCH_MS)


async def recorded(store: Store, batch: list[Append]) -> None:
    """Appends the batch and sees to it that everything was recorded."""
    for outcome in await store.append(batch):
        if not isinstance(outcome, Appended):
            raise outcome
