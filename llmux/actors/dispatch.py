"""Takes wishes on: an answer from the cache, a place in an equal flight under way, or a flight of its own."""

from collections.abc import Awaitable, Callable

import trio

from llmux.actors.cached_answer import CachedAnswer
from llmux.actors.content import ContentKeeper
from llmux.actors.crew import Crew
from llmux.actors.fingerprints import Fingerprints
from llmux.actors.flight import Flight
from llmux.actors.idempotency import IdempotencyKeys
from llmux.actors.limiter import Limiter
from llmux.actors.messages import Principal, Wish
from llmux.actors.request import Produces, Request, event_of
from llmux.actors.revocation import Revocation
from llmux.actors.router import DRAW_BELOW, Routing, World, route
from llmux.events import RequestAccepted, RequestCompleted, RouteExcluded, RouteTaken
from llmux.failures import LLMuxError, NoRoute, Overloaded
from llmux.prompts import Chunk, Usage, size_bytes


class Dispatch:
    """All flights under way. `run` is the task in which they live.

    `crew` makes the crew of all flights, given what starts a task beside them.
    """

    def __init__(
        self,
        crew: Callable[[Callable[..., None]], Crew],
        world: Callable[[Principal], World],
        fingerprints: Fingerprints,
        content: ContentKeeper,
        limiter: Limiter,
        revocation: Revocation,
        idempotency: IdempotencyKeys,
    ):
        self._crew = crew(self._spawn)
        self._nursery: trio.Nursery | None = None
        self._world = world
        self._fingerprints = fingerprints
        self._content = content
        self._limiter = limiter
        self._revocation = revocation
        self._idempotency = idempotency
        self._flights: dict[str, Flight] = {}
        self._joinable: dict[str, Flight] = {}

    def __repr__(self) -> str:
        return f"<Dispatch flights={len(self._flights)} joinable={len(self._joinable)}>"

    @property
    def open(self) -> bool:
        """Whether `run` runs."""
        return self._nursery is not None

    @property
    def flights(self) -> int:
        """How many are under way."""
        return len(self._flights)

    def running(self) -> list[tuple[str, str]]:
        """Provider and model of every flight that is trying one, each once."""
        return sorted({(each.provider, each.model) for each in self._flights.values() if each.provider})

    def take(self, wish: Wish) -> Request:
        """Takes a wish on. Raises ClientFailure (ModelUnknown, ModelNotAllowed, ProviderUnknown, LimitReached, AnswerUnavailable),
        NoRoute or Overloaded.
        """
        crew = self._crew
        routing = route(wish, self._world(wish.principal), crew.clock.draw(DRAW_BELOW))
        fingerprint = self._fingerprints.of(wish, routing.forbidden)
        known = self._idempotency.known(wish, fingerprint)
        if known is not None:
            return self._again(wish, fingerprint, known, routing)
        looks = wish.use_cache and not wish.fresh
        if looks:
            cached = crew.cache.look(fingerprint)
            if cached is not None:
                return self._from_cache(wish, fingerprint, cached, routing)
            flight = self._joinable.get(fingerprint)
            if flight is not None and flight.joinable:
                return self._join(wish, flight, routing)
        if not routing.candidates and not (looks and crew.cache.shared is not None):  # a flight looks there first
            raise NoRoute(routing.excluded, crew.clock.now())
        if len(self._flights) >= crew.settings.limits.flights_max:
            raise Overloaded("Too many requests are under way.")
        return self._fly(wish, fingerprint, routing)

    def stop(self) -> None:
        """Every flight is cancelled by the gateway."""
        for flight in list(self._flights.values()):
            flight.stop()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Holds the flights. Cancelled, every flight still lands: its last facts are shielded."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def _spawn(self, task: Callable[..., Awaitable[object]], *args: object) -> None:
        assert self._nursery is not None, "flights begin in `take`, which is called while `run` runs"
        self._nursery.start_soon(task, *args)

    def _fly(self, wish: Wish, fingerprint: str, routing: Routing) -> Request:
        id = self._crew.clock.new_id()  # of the flight and of the request that starts it
        flight = Flight(id, fingerprint, routing, self._crew, self._landed)
        request = self._request(id, wish, "flight", flight)
        flight.board(request)
        self._idempotency.claim(request, fingerprint, flight)
        self._flights[flight.id] = flight
        under_way = self._joinable.get(fingerprint)
        if wish.use_cache and (under_way is None or not under_way.joinable):
            self._joinable[fingerprint] = flight
        cache = "miss" if wish.use_cache and not wish.fresh else "off"
        reserved = self._limiter.held_for(id)
        accepted = _accepted(wish, fingerprint, routing, "", cache, self._content.wants(wish.principal), reserved)
        self._crew.spawn(self._flown, flight, accepted)
        return request

    async def _flown(self, flight: Flight, accepted: RequestAccepted) -> None:
        try:
            await flight.run(accepted)
        finally:
            self._limiter.over(flight.id)

    def _request(self, id: str, wish: Wish, source: str, producer: Produces) -> Request:
        most_ms = self._crew.settings.request_timeout_ms
        timeout_ms = min(wish.timeout_ms or most_ms, most_ms)
        self._limiter.claim(id, wish, generates=source == "flight")
        request = Request(id, wish, source, producer, self._crew.clock, timeout_ms)
        self._content.expect(request)
        self._revocation.expect(request)
        return request

    def _landed(self, flight: Flight) -> None:
        self._flights.pop(flight.id, None)
        if self._joinable.get(flight.fingerprint) is flight:
            del self._joinable[flight.fingerprint]

    def _join(self, wish: Wish, flight: Flight, routing: Routing) -> Request:
        request = self._request(self._crew.clock.new_id(), wish, "joined", flight)
        flight.hold(request)
        self._idempotency.claim(request, flight.fingerprint, flight)
        cache = "miss" if wish.use_cache else "off"
        accepted = _accepted(wish, flight.fingerprint, routing, flight.id, cache, self._content.wants(wish.principal))
        self._crew.spawn(self._joined, flight, request, accepted)
        return request

    async def _joined(self, flight: Flight, request: Request, accepted: RequestAccepted) -> None:
        await flight.join(request, accepted)
        if request.ended:  # else it is among the waiters, and its terminal fact is still to come
            self._limiter.over(request.id)

    def _again(self, wish: Wish, fingerprint: str, known: Flight | CachedAnswer, routing: Routing) -> Request:
        """Its idempotency key stands for an order that was taken on before."""
        if isinstance(known, Flight):
            request = self._join(wish, known, routing)
        else:
            request = self._from_cache(wish, fingerprint, known, routing)
        request.again = True
        return request

    def _from_cache(self, wish: Wish, fingerprint: str, cached: CachedAnswer, routing: Routing) -> Request:
        request = self._request(self._crew.clock.new_id(), wish, "cache", _Held(cached))
        self._idempotency.claim(request, fingerprint, cached)
        accepted = _accepted(wish, fingerprint, routing, "", "hit", self._content.wants(wish.principal))
        self._crew.spawn(self._serve_cached, request, cached, accepted)
        return request

    async def _serve_cached(self, request: Request, cached: CachedAnswer, accepted: RequestAccepted) -> None:
        finish = cached.finish
        completed = RequestCompleted(
            provider=cached.provider,
            account=cached.account,
            model=cached.model,
            finish=finish.reason,
            attempts=0,
            duration_ms=request.duration_ms,
            usage=Usage(),
            source="cache",
        )
        try:
            with trio.CancelScope(shield=True):
                await self._crew.journal.append(
                    *(event_of(request, fact, self._crew.clock) for fact in (accepted, completed))
                )
        except LLMuxError as failure:
            request.end(failure)
        else:
            request.end(finish)
        self._limiter.over(request.id)


class _Held:
    """A cached answer as something that requests read from."""

    def __init__(self, cached: CachedAnswer):
        self.provider, self.account, self.model = cached.provider, cached.account, cached.model
        self.attempts = 0
        self.chunks: list[Chunk] = list(cached.chunks[:-1])

    def left(self, request: Request) -> None:
        """Nothing is under way that could be stopped."""

    def cut(self, request: Request, failure: LLMuxError) -> None:
        """The whole answer is there, and its end is being written."""


def _accepted(
    wish: Wish, fingerprint: str, routing: Routing, flight: str, cache: str, content: bool, reserved: int = 0
) -> RequestAccepted:
    return RequestAccepted(
        endpoint=wish.endpoint,
        model=wish.model[:200],
        stream=wish.stream,
        pinned=routing.pinned,
        fingerprint=fingerprint,
        prompt_bytes=size_bytes(wish.prompt),
        flight=flight,
        candidates=[RouteTaken(each.provider, each.account, each.model, each.weight) for each in routing.candidates],
        exclusions=[
            RouteExcluded(each.provider, each.account, each.model, each.reason, each.until) for each in routing.excluded
        ],
        draw=routing.draw,
        cache=cache,
        reserved_tokens=reserved,
        content=content,
        spares=routing.spares,
        idempotency=wish.idempotency,
    )
