"""Routes recorded requests anew: fed with the events of a log one by one, it says in the end how they would have fallen."""

from collections.abc import Collection, Mapping

import msgspec

from llmux.actors.facts.quotas import QUOTAS, Quotas
from llmux.actors.router import Route, in_order
from llmux.actors.simulation.flights import Flight, Flights, RouteName, Try
from llmux.actors.simulation.order import Order
from llmux.actors.simulation.report import Counts, Report, report_of
from llmux.actors.simulation.rules import AS_RECORDED, Rests, Rules, is_rest
from llmux.actors.simulation.tally import Chain, Ledger, Record, Step
from llmux.events import (
    AttemptCancelled,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    GatewayStarted,
    ProviderCooled,
    ProviderRestored,
    QuotaExhausted,
    QuotaReset,
    Recorded,
    RequestAbandoned,
    RequestAccepted,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestJoined,
    RouteTaken,
    fact_of,
)
from llmux.failures import UnknownEvent


class Window(msgspec.Struct, frozen=True):
    """Which requests count: those accepted at `first` or later and not before `first_ms`, up to `last` or `last_ms`.

    Positions of the log, and wall times in ms as recorded; None = no bound.
    """

    first: int = 1
    first_ms: int | None = None
    last: int | None = None
    last_ms: int | None = None


WHOLE_LOG = Window()


class Simulation:
    """Feed it the log from its beginning (`note`), then ask for the `report`. It holds the requests under way and the sums.

    `weights` are new weights by provider, `rules` what else is to be different; `skipped` are positions that somebody has
    declared skipped, and `quotas` the facts of the quota tracker before the first event.
    """

    def __init__(
        self,
        weights: Mapping[str, int],
        rules: Rules = AS_RECORDED,
        window: Window = WHOLE_LOG,
        *,
        skipped: Collection[int] = (),
        quotas: Quotas = QUOTAS.empty,
    ):
        self._weights = dict(weights)
        self._rules = rules
        self._window = window
        self._skipped = skipped
        self._rests = Rests(rules, quotas)
        self._order = Order()
        self._flights = Flights()
        self._begun = False
        self._counts = Counts()
        self._records: dict[RouteName, Record] = {}
        self._recorded = Ledger()
        self._simulated = Ledger()

    def __repr__(self) -> str:
        return f"<Simulation {self._counts.accepted} requests, {self._flights!r}, {self._simulated!r}>"

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that the log knows so far, in their configured order."""
        return tuple(dict.fromkeys((*self._order.providers, *self._counts.weights)))

    def note(self, event: Recorded) -> bool:
        """Takes the next event. False: it lies behind the window, and so does all that follows. Raises UnknownEvent."""
        window = self._window
        if window.last is not None and event.position > window.last:
            return False
        if window.last_ms is not None and event.recorded_at > window.last_ms:
            return False
        if not self._begun and event.position >= window.first:
            self._begun = window.first_ms is None or event.recorded_at >= window.first_ms
        try:
            fact = fact_of(event)
        except UnknownEvent:
            if event.position in self._skipped:
                return True
            raise
        if self._begun:
            self._counts.see(event.position)
        self._take(event, fact)
        return True

    def _take(self, event: Recorded, fact: Event) -> None:
        match fact:
            case AttemptStarted() | AttemptSucceeded() | AttemptFailed() | AttemptCancelled():
                self._flights.attempt(event, fact)
            case RequestAccepted():
                self._accepted(event, fact)
            case RequestCompleted() | RequestFailed() | RequestCancelled() | RequestAbandoned():
                flight = self._flights.end(event, fact)
                if flight is not None and flight.counted:
                    self._over(event, flight)
            case RequestJoined():
                self._counts.joined += self._flights.join(event, fact)
            case QuotaExhausted() | ProviderCooled() | ProviderRestored() | QuotaReset():
                self._rests.note(event, fact, self._order.cooldowns_ms)
            case GatewayStarted():
                self._order = Order(fact.routing)

    # --- routing ----------------------------------------------------------------------------------------------------

    def _accepted(self, event: Recorded, fact: RequestAccepted) -> None:
        recorded = [_route(each) for each in fact.candidates]
        configured = self._order.sorted(recorded)
        if self._begun:
            fits = in_order(*_parts(configured, fact), fact.draw) == recorded
            self._counts.accept(recorded, fits=fits, assumed=self._order.assumed and len(recorded) > 1)
        if fact.cache == "hit":
            self._counts.from_cache += self._begun
            return
        eligible, back = self._eligible(event, fact, configured)
        weighted = [
            msgspec.structs.replace(each, weight=self._weights[each.provider])
            if each.provider in self._weights
            else each
            for each in eligible
        ]
        order = tuple(_name(each) for each in in_order(*_parts(weighted, fact), fact.draw))
        failing = frozenset(_name(each) for each in back if self._rests.fails_again(each, event.recorded_at))
        if order and order[0] in failing:
            self._rests.begin_again(self._left_out(*order[0]), event.recorded_at)
        self._flights.accept(event, Flight(fact, self._begun, order, eligible == configured, failing))

    def _eligible(
        self, event: Recorded, fact: RequestAccepted, configured: list[Route]
    ) -> tuple[list[Route], list[Route]]:
        """The candidates under the rules, and which of them were excluded: rests that end earlier bring routes back, and
        those that last longer take candidates out."""
        if not self._rules.cooldowns:
            return configured, []
        rests, now = self._rests, event.recorded_at
        stay = [each for each in configured if not (rests.differ(each) and rests.out(each, now))]
        left_out = [
            self._left_out(each.provider, each.account, each.model) for each in fact.exclusions if is_rest(each.reason)
        ]
        back = [each for each in left_out if rests.differ(each) and not rests.out(each, now)]
        return (self._order.sorted((*stay, *back)) if back else stay), back

    def _left_out(self, provider: str, account: str, model: str) -> Route:
        """A route that was excluded, with its configured weight, which its exclusion does not repeat."""
        return Route(provider, account, model, self._order.weights.get(provider, 1))

    # --- what came of it --------------------------------------------------------------------------------------------

    def _over(self, event: Recorded, flight: Flight) -> None:
        if not flight.tries and not flight.exhausted:
            self._counts.untried += 1
            return
        for name, tried in flight.tries.items():
            self._records.setdefault(name, Record()).add(tried)
        recorded = Chain(tuple(_known(name, tried) for name, tried in flight.tries.items()))
        simulated = self._chain(event, flight)
        self._recorded.enter(recorded, flight.tries.values())
        self._simulated.enter(simulated, flight.tries.values())
        self._counts.compare(recorded, simulated)

    def _chain(self, event: Recorded, flight: Flight) -> Chain:
        """The routes as they would have been tried, up to the end that is sure to come."""
        skipped, now = flight.skipped, event.recorded_at
        steps: list[Step] = []
        sure = True
        for name in flight.order:
            tried = flight.tries.get(name)
            if tried is None and name in skipped and not self._is_back(name, now):
                continue
            step = _unknown(name, flight) if tried is None else _known(name, tried)
            if steps and sure and name in flight.failing:
                self._rests.begin_again(self._left_out(*name), now)
            steps.append(step)
            sure = sure and step.outcome == "failed"
            if step.outcome not in ("", "failed") or not self._rules.fallback:
                break
        return Chain(tuple(steps), flight.certain)

    def _is_back(self, name: RouteName, now: int) -> bool:
        """Whether the rules have ended a rest that made the gateway pass the route over."""
        route = self._left_out(*name)
        return self._rests.differ(route) and not self._rests.out(route, now)

    def report(self) -> Report:
        """What was, and what would have been, as of the last event."""
        self._counts.open = sum(flight.counted for flight in self._flights.left())
        return report_of(
            self._counts,
            self._order,
            self._weights,
            self._rules,
            self._rests,
            self._records,
            self._recorded,
            self._simulated,
        )


def _route(each: RouteTaken) -> Route:
    return Route(each.provider, each.account, each.model, each.weight)


def _parts(routes: list[Route], fact: RequestAccepted) -> tuple[list[Route], list[Route]]:
    """Which of the routes the request asked for, and which it allows besides.

    Of an excluded route that has come back the log does not say it: it was asked for if another of its provider was, or if
    no other was (then what was asked for is what was excluded).
    """
    if not fact.spares:
        return routes, []
    first = {each.provider for each in fact.candidates[: -fact.spares]}
    spare = {each.provider for each in fact.candidates[-fact.spares :]}
    wanted = [each for each in routes if each.provider in first or (not first and each.provider not in spare)]
    return wanted, [each for each in routes if each not in wanted]


def _name(route: Route) -> RouteName:
    return route.provider, route.account, route.model


def _known(name: RouteName, tried: Try) -> Step:
    return Step(name, tried.outcome, tried.attempts)


def _unknown(name: RouteName, flight: Flight) -> Step:
    outcome = "failed" if name in flight.failing else "given_up" if flight.was_given_up else ""
    return Step(name, outcome, known=False)
