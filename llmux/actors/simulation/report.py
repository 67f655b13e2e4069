"""What a simulation says in the end: the recorded figures beside the simulated ones, which are estimates, and why."""

from collections.abc import Mapping

import msgspec

from llmux.actors.router import Route
from llmux.actors.simulation.flights import RouteName
from llmux.actors.simulation.order import Order
from llmux.actors.simulation.rules import Rests, Rules
from llmux.actors.simulation.tally import Chain, Chance, Ledger, Record, Sums, Tally, median


class Figures(msgspec.Struct, frozen=True):
    """The figures of one provider. Those named in `estimates` are expected values and not counts."""

    requests: float
    """that were tried here first"""
    share: float
    """of all requests that were tried anywhere, 0 to 1"""
    fallbacks: float
    """that came here after another route had failed"""
    answered: float
    failures: float
    """routes tried in vain, however often"""
    given_up: float
    """stopped, because nobody waited any more"""
    attempts: float
    tokens: float
    """input and output of its answers"""
    median_ms: int | None
    """of its answers, from the beginning of the attempt; None without answers"""
    estimates: tuple[str, ...] = ()


class ProviderReport(msgspec.Struct, frozen=True):
    """One provider. `weights` are those that the log holds in the window, `weight` the simulated one (None: as recorded)."""

    provider: str
    weights: tuple[int, ...]
    weight: int | None
    recorded: Figures
    simulated: Figures


class Totals(msgspec.Struct, frozen=True):
    """The figures over all providers. `fallbacks` counts how often a request went on to another route."""

    requests: int
    answered: float
    failed: float
    given_up: float
    fallbacks: float
    estimates: tuple[str, ...] = ()


class Guess(msgspec.Struct, frozen=True):
    """What an outcome that is not in the log was taken to be: the shares that the route's recorded tries came to.

    `of` says whose tries they are: the "route"'s own, those of the whole "provider", or "nothing" where there are none: then
    it is taken to answer. `tries` is their number, `median_ms` that of their answers.
    """

    provider: str
    account: str
    model: str
    of: str
    tries: int
    answered: float
    failed: float
    ended: float
    attempts: float
    median_ms: int | None


class Report(msgspec.Struct, frozen=True):
    """The whole result. `accepted` = `routed` + `joined` + `from_cache` + `untried` + `open`."""

    first: int | None
    """position of the first event in the window; None: there is none"""
    last: int | None
    accepted: int
    routed: int
    """had a flight of their own that tried routes: these are simulated"""
    joined: int
    """shared another request's flight"""
    from_cache: int
    untried: int
    """ended before any route was tried: the client left, or the store was in trouble"""
    open: int
    """not over yet at the end of the window"""
    reproduced: int
    """accepted requests whose recorded order is what this router makes of the recorded weights and draw"""
    known: int
    """routed requests of whose simulated way the log knows every step; the others are estimated"""
    estimated: int
    moved: int
    """routed requests that are tried first at another provider than recorded"""
    rests_changed: int
    rests_kept: int
    """rests whose end the provider had said, which no rule changes"""
    order_assumed: int
    """requests that were routed in an order of providers that the log does not hold"""
    fallback: bool
    recorded: Totals
    simulated: Totals
    providers: tuple[ProviderReport, ...]
    guesses: tuple[Guess, ...]
    mean_tokens: float
    """what a request is taken to cost of which no cost is recorded: the mean of all answers"""
    disabled: tuple[str, ...]
    """providers with a new weight that were not enabled, and so were never candidates"""


class Counts(msgspec.Struct):
    """What is counted while the log is read."""

    first: int | None = None
    last: int | None = None
    accepted: int = 0
    joined: int = 0
    from_cache: int = 0
    untried: int = 0
    open: int = 0
    reproduced: int = 0
    known: int = 0
    estimated: int = 0
    moved: int = 0
    order_assumed: int = 0
    weights: dict[str, dict[int, None]] = {}

    def see(self, position: int) -> None:
        """An event of the window."""
        self.first = self.first or position
        self.last = position

    def accept(self, routes: list[Route], *, fits: bool, assumed: bool) -> None:
        """A request; `fits`: its order is reproduced, `assumed`: from an order that is not in the log."""
        self.accepted += 1
        self.reproduced += fits
        self.order_assumed += assumed
        for route in routes:
            self.weights.setdefault(route.provider, {})[route.weight] = None

    def compare(self, recorded: Chain, simulated: Chain) -> None:
        """A request that was routed twice."""
        self.known += simulated.known
        self.estimated += not simulated.known
        self.moved += _first(recorded) != _first(simulated)


def _first(chain: Chain) -> str:
    return chain.steps[0].route[0] if chain.steps else ""


def report_of(
    counts: Counts,
    order: Order,
    weights: Mapping[str, int],
    rules: Rules,
    rests: Rests,
    records: Mapping[RouteName, Record],
    recorded: Ledger,
    simulated: Ledger,
) -> Report:
    """Puts the report together."""
    answers = sum(record.outcomes["answered"] for record in records.values())
    was = recorded.sums({}, 0.0)
    mean_tokens = sum(tally.tokens for tally in was.providers.values()) / answers if answers else 0.0
    chances = _chances(simulated, records)
    would = simulated.sums(chances, mean_tokens)
    names = dict.fromkeys((*order.providers, *counts.weights, *was.providers, *would.providers))
    shown = [name for name in names if name not in order.disabled or name in was.providers or name in would.providers]
    plain = {name: getattr(counts, name) for name in Counts.__struct_fields__ if name != "weights"}
    return Report(
        **plain,
        routed=was.requests,
        rests_changed=rests.changed,
        rests_kept=rests.kept,
        fallback=rules.fallback,
        recorded=_totals(was),
        simulated=_totals(would),
        providers=tuple(
            ProviderReport(
                name, tuple(counts.weights.get(name, ())), weights.get(name), _figures(was, name), _figures(would, name)
            )
            for name in shown
        ),
        guesses=tuple(_guess(name, chances[name], records) for name in sorted(chances)),
        mean_tokens=round(mean_tokens, 1),
        disabled=tuple(name for name in weights if name in order.disabled),
    )


def _chances(ledger: Ledger, records: Mapping[RouteName, Record]) -> dict[RouteName, Chance]:
    """What to take for the outcomes that are not in the log, for every route that has such."""
    open_routes = {step.route for chain in ledger.batches for step in chain.steps if not step.outcome}
    providers: dict[str, Record] = {}
    for name, record in records.items():
        whole = providers.setdefault(name[0], Record())
        whole.outcomes += record.outcomes
        whole.attempts += record.attempts
        whole.durations_ms += record.durations_ms
    return {
        name: records.get(name, Record()).chance("route")
        or providers.get(name[0], Record()).chance("provider")
        or Chance(of="nothing")
        for name in open_routes
    }


def _guess(name: RouteName, chance: Chance, records: Mapping[RouteName, Record]) -> Guess:
    same = {"route": 3, "provider": 1, "nothing": 0}[chance.of]
    tries = sum(record.outcomes.total() for route, record in records.items() if same and route[:same] == name[:same])
    answered, failed, ended = (round(each, 4) for each in (chance.answered, chance.failed, chance.ended))
    return Guess(*name, chance.of, tries, answered, failed, ended, round(chance.attempts, 2), chance.duration_ms)


def _figures(sums: Sums, name: str) -> Figures:
    tally = sums.providers.get(name, Tally())
    everywhere = sum(each.requests for each in sums.providers.values())
    estimates = set(tally.estimates)
    if any("requests" in each.estimates for each in sums.providers.values()):
        estimates |= {"share"}
    return Figures(
        requests=_neat(tally.requests),
        share=round(tally.requests / everywhere, 4) if everywhere else 0.0,
        fallbacks=_neat(tally.fallbacks),
        answered=_neat(tally.answered),
        failures=_neat(tally.failures),
        given_up=_neat(tally.given_up),
        attempts=_neat(tally.attempts),
        tokens=_neat(tally.tokens),
        median_ms=median(tally.durations_ms),
        estimates=tuple(sorted(estimates)),
    )


def _totals(sums: Sums) -> Totals:
    return Totals(
        sums.requests,
        _neat(sums.answered),
        _neat(sums.failed),
        _neat(sums.given_up),
        _neat(sums.fallbacks),
        tuple(sorted(sums.estimates)),
    )


def _neat(number: float) -> float:
    """Without the dust of binary fractions; what is whole is written as an integer."""
    rounded = round(number, 2)
    return int(rounded) if rounded == int(rounded) else rounded
