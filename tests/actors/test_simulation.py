"""What if: recorded requests routed anew. With nothing changed, the simulation is the record."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.actors.opening import open_system
from llmux.actors.simulation import Report, Rules, Simulation, Window
from llmux.clock import SeededClock
from llmux.config import Account, Settings
from llmux.events import RecordedEvent
from llmux.failures import LLMuxError
from tests.actors.house import WEIGHTS, house_settings, log_of, scripted, wish

SEED = 20_261_122


def simulated(log: list[RecordedEvent], weights: dict[str, int] | None = None, **changes: Any) -> Simulation:
    simulation = Simulation(weights or {}, **changes)
    for event in log:
        if not simulation.note(event):
            break
    return simulation


def report_on(log: list[RecordedEvent], weights=None, **changes: Any) -> Report:
    return simulated(log, weights, **changes).report()


def assert_as_recorded(report: Report) -> None:
    assert report.estimated == report.moved == 0
    assert report.known == report.routed
    assert report.reproduced == report.accepted
    assert report.simulated == report.recorded
    for each in report.providers:
        assert each.simulated == each.recorded, each.provider
    assert report.accepted == report.routed + report.joined + report.from_cache + report.untried + report.open


async def driven(settings: Settings, requests: int, *, seed: int = 0, gap_s: float = 1.0, chance=None) -> list[Any]:
    """Runs a gateway, asks it so many times, and returns its whole log."""
    async with open_system(settings, SeededClock(seed), environ={}) as system:
        for number in range(requests):
            await trio.sleep(gap_s)
            changes = {} if chance is None else busy_wish(chance, number)
            await ask(system, wish(**{"text": f"prompt {number}", **changes}), chance)
        return await log_of(system)


async def ask(system, wished, chance=None) -> None:
    """One request, or now and then several equal ones at the same time, or one whose client leaves."""
    copies = 1 if chance is None or not wished.use_cache else chance.choice((1, 1, 2, 3))
    leaves = chance is not None and chance.random() < 0.05

    async def one() -> None:
        try:
            with system.request(wished) as request:
                if leaves:
                    await trio.sleep(0.02)
                    return
                await request.answer()
        except LLMuxError:
            pass  # what it came to is in the log

    async with trio.open_nursery() as nursery:
        for _ in range(copies):
            nursery.start_soon(one)


def busy_wish(chance: random.Random, number: int) -> dict[str, Any]:
    match chance.randrange(10):
        case 0 | 1:
            return {"provider": chance.choice(("alpha", "beta", "gamma", "delta")), "fallback": number % 2 == 0}
        case 2:
            return {"model": chance.choice(("shared", "delay=30,say=hi", "beta/echo", "fail=invalid_request"))}
        case 3 | 4:
            return {"text": f"asked often {chance.randrange(6)}", "use_cache": True}
        case _:
            return {}


def busy_settings(tmp_path: Path, order: str, weights: dict[str, int]) -> Settings:
    """Providers that rest after quotas of two kinds, that fail without resting, that fail now and then; one of two accounts."""
    providers = {
        "alpha": {"model": "delay=40,chunks=3", "accounts": (Account(name="home"), Account(name="work"))},
        "beta": {"model": "fail=quota_exhausted,resets=17,times=4", "models": ("shared", "echo")},
        "gamma": {"model": "fail=crashed"},
        "delta": {"model": "delay=90,echo", "models": ("shared",), "cooldown_ms": 30_000},
        "omega": {"model": "fail=quota_exhausted", "cooldown_ms": 25_000},
    }
    names = {name[0]: name for name in providers}
    chosen = {names[letter]: scripted(**providers[names[letter]], weight=weights[names[letter]]) for letter in order}
    return house_settings(tmp_path, chosen, default_provider="alpha")


async def busy_log(tmp_path: Path) -> list[RecordedEvent]:
    """Several hundred requests of every sort, over three starts with other weights and another order of providers."""
    chance = random.Random(SEED)
    log: list[RecordedEvent] = []
    for seed, (order, weights) in enumerate(
        [
            ("abgdo", {"alpha": 50, "beta": 30, "gamma": 15, "delta": 5, "omega": 10}),
            ("odbga", {"alpha": 20, "beta": 40, "gamma": 30, "delta": 0, "omega": 25}),
            ("gabdo", {"alpha": 30, "beta": 30, "gamma": 40, "delta": 0, "omega": 0}),
        ]
    ):
        log = await driven(busy_settings(tmp_path, order, weights), 150, seed=seed, chance=chance)
    return log


def ways_of(log: list[RecordedEvent]) -> Counter:
    """The routes that each request tried, one after the other, straight from its attempts."""
    ways: dict[str, list[tuple[str, str, str]]] = {}
    for event in log:
        if event.type == "AttemptStarted":
            fact = event.fact
            route, way = (fact.provider, fact.account, fact.model), ways.setdefault(event.correlation_id, [])
            if not way or way[-1] != route:
                way.append(route)
    return Counter(map(tuple, ways.values()))


async def test_the_same_weights_give_the_recorded_routes_exactly(tmp_path, virtual_time):
    log = await busy_log(tmp_path)
    types = Counter(event.type for event in log)
    reasons = Counter(each.reason for event in log if event.type == "RequestAccepted" for each in event.fact.exclusions)
    print("seed", SEED, dict(types), dict(reasons))
    assert types["RequestAccepted"] > 500
    for name in ("RequestJoined", "RequestCancelled", "RequestFailed", "QuotaExhausted", "ProviderRestored"):
        assert types[name] > 2, name
    assert reasons["quota_exhausted"] > 50
    simulation = simulated(log)
    report = simulation.report()
    assert_as_recorded(report)
    assert report.recorded.fallbacks > 50
    assert report.from_cache > 10
    assert report.joined > 5
    # straight from the log, without anything that the simulation shares with itself
    tried = Counter()
    for chain, batch in simulation._simulated.batches.items():
        tried[tuple(step.route for step in chain.steps)] += batch.requests
    assert tried == ways_of(log)
    for each in report.providers:
        facts = [e.fact for e in log if e.type in ("AttemptStarted", "AttemptSucceeded")]
        mine = [fact for fact in facts if fact.provider == each.provider]
        answers = [fact for fact in mine if hasattr(fact, "usage")]
        assert each.simulated.attempts == len(mine) - len(answers)
        assert each.simulated.answered == len(answers)
        assert each.simulated.tokens == sum(fact.usage.total_tokens for fact in answers)


@pytest.mark.parametrize("rescued", [True, False])
async def test_a_route_that_was_passed_over_is_passed_over_again(tmp_path, virtual_time, rescued):
    """A quota that is spent by one request between the routing and the second try of another."""
    providers = {
        "spent": scripted("fail=quota_exhausted,delay=100", cooldown_ms=20_000),
        "slow": scripted("fail=garbled,delay=300"),
        **({"good": scripted(weight=0)} if rescued else {}),
    }
    async with open_system(house_settings(tmp_path, providers), SeededClock(SEED), environ={}) as system:
        for number in range(30):
            async with trio.open_nursery() as nursery:
                for twin in "ab":
                    nursery.start_soon(ask, system, wish(f"{number} {twin}"))
            await trio.sleep(60)
        log = await log_of(system)
    report = report_on(log)
    assert_as_recorded(report)
    assert report.recorded.failed == (0 if rescued else 60)
    spent, slow = report.providers[:2]
    passed_over = slow.recorded.requests - spent.recorded.fallbacks
    print("seed", SEED, "passed over", passed_over)
    assert passed_over > 5
    other = report_on(log, {"slow": 10_000})
    assert other.simulated.failed == pytest.approx(report.recorded.failed, abs=0.01)
    assert other.providers[0].simulated.fallbacks <= report.recorded.requests - passed_over


async def test_a_failure_that_leads_nowhere_leads_nowhere_elsewhere(tmp_path, virtual_time):
    """A refused request ends at the first route, and the routes behind it were not passed over: they were not needed."""
    settings = house_settings(tmp_path, {"one": scripted(), "two": scripted()})
    async with open_system(settings, SeededClock(SEED), environ={}) as system:
        for _ in range(20):
            await ask(system, wish(model="fail=invalid_request"))
        log = await log_of(system)
    report = report_on(log, {"one": 0})
    two = report.providers[1]
    assert (two.simulated.requests, two.simulated.failures, two.simulated.fallbacks) == (20, 20, 0)
    assert (report.simulated.failed, report.simulated.fallbacks) == (20, 0)
    assert 0 < two.recorded.requests < 20


async def test_it_holds_the_fates_of_requests_and_not_the_requests(tmp_path, virtual_time):
    simulation = simulated(await driven(house_settings(tmp_path), 200), {"beta": 99})
    assert len(simulation._recorded.batches) == len(WEIGHTS)
    assert len(simulation._simulated.batches) <= 4 + 4 * 3 + 4 * 3 * 2 * 2, "the ways there are through four providers"
    assert not simulation._flights.open
    assert not simulation._flights._owner
    assert not simulation._flights._joined


async def test_other_weights_route_as_a_gateway_with_them_did(tmp_path, virtual_time):
    """Reality as the witness: a second gateway, with the same draws and the new weights, did what was foretold."""
    new = {"alpha": 5, "beta": 0, "gamma": 80, "delta": 5}
    log = await driven(house_settings(tmp_path / "was"), 200, seed=SEED)
    other = {name: scripted(weight=weight) for name, weight in new.items()}
    really = report_on(await driven(house_settings(tmp_path / "is", other), 200, seed=SEED))
    foretold = report_on(log, {"alpha": 5, "beta": 0, "gamma": 80})  # delta keeps its 5
    assert foretold.moved > 100
    assert foretold.estimated > 100
    for told, real in zip(foretold.providers, really.providers, strict=True):
        for field in ("requests", "share", "answered", "attempts", "fallbacks", "tokens"):
            assert getattr(told.simulated, field) == getattr(real.recorded, field), (told.provider, field)
    beta = foretold.providers[1]
    assert (beta.weights, beta.weight, beta.simulated.requests) == ((30,), 0, 0)


async def test_a_shorter_or_longer_cooldown_is_what_a_gateway_with_it_did(tmp_path, virtual_time):
    """A route whose quota stays spent is tried as often under the other rule as it really was in a gateway that had it."""

    async def with_cooldown(cooldown_s: int) -> list[RecordedEvent]:
        providers = {
            "spent": scripted("fail=quota_exhausted", weight=90, cooldown_ms=cooldown_s * 1000),
            "good": scripted(weight=10),
        }
        return await driven(house_settings(tmp_path / str(cooldown_s), providers), 120, seed=SEED, gap_s=5)

    logs = {seconds: await with_cooldown(seconds) for seconds in (60, 300)}
    really = {seconds: report_on(log).providers[0].recorded for seconds, log in logs.items()}
    assert really[60].attempts >= 3 * really[300].attempts > 0
    for was, would in ((60, 300), (300, 60)):
        for rule in (("", ""), ("spent", ""), ("", "quota_exhausted"), ("spent", "quota_exhausted")):
            report = report_on(logs[was], rules=Rules({rule: would * 1000, ("good", ""): 1000}))
            assert report.providers[0].simulated.attempts == pytest.approx(really[would].attempts, abs=1), (was, rule)
            assert report.rests_changed == really[was].attempts
        assert_as_recorded(report_on(logs[was], rules=Rules({("", ""): was * 1000})))
        assert_as_recorded(report_on(logs[was], rules=Rules({("", "overloaded"): 1000, ("good", ""): 1000})))


async def test_a_rest_whose_end_the_provider_said_keeps_it(tmp_path, virtual_time):
    providers = {"told": scripted("fail=quota_exhausted,resets=100", weight=90), "good": scripted(weight=10)}
    log = await driven(house_settings(tmp_path, providers), 60, gap_s=5)
    report = report_on(log, rules=Rules({("", ""): 5_000}))
    assert_as_recorded(report)
    assert report.rests_changed == 0
    assert report.rests_kept > 1


async def test_without_fallback_what_a_second_route_saved_is_lost(tmp_path, virtual_time):
    providers = {"bad": scripted("fail=crashed", weight=50), "good": scripted(weight=50)}
    log = await driven(house_settings(tmp_path, providers), 60)
    report = report_on(log, rules=Rules(fallback=False))
    bad, good = report.providers
    assert report.estimated == 0, "the first try of every request is recorded"
    assert report.recorded.failed == 0
    assert report.simulated.failed == report.recorded.fallbacks == bad.recorded.requests > 20
    assert report.simulated.fallbacks == 0
    assert good.simulated.answered == good.recorded.requests


async def test_a_recorded_fallback_is_a_known_answer_for_the_route_that_gave_it(tmp_path, virtual_time):
    """A request that was answered only by its second route is, tried there first, answered for certain."""
    providers = {"bad": scripted("fail=crashed", weight=50), "good": scripted(weight=50)}
    log = await driven(house_settings(tmp_path, providers), 60)
    report = report_on(log, {"bad": 0})
    bad, good = report.providers
    assert report.estimated == 0
    assert report.moved == bad.recorded.requests
    assert (good.simulated.requests, good.simulated.answered, good.simulated.estimates) == (60, 60, ())
    assert bad.simulated.attempts == 0


async def test_what_nobody_tried_is_estimated_by_the_routes_own_record(tmp_path, virtual_time):
    """Expected values: with a third of its recorded tries in vain, a route fails a third of what moves to it."""
    providers = {"flaky": scripted("fail=garbled,times=10"), "good": scripted(weight=1)}
    log = await driven(house_settings(tmp_path, providers), 40)
    report = report_on(log, {"flaky": 10_000, "good": 0})
    flaky, good = report.providers
    tries, failed = flaky.recorded.attempts, flaky.recorded.failures
    assert failed == 10 < tries < 40
    moved = 40 - tries
    (guess,) = (each for each in report.guesses if each.provider == "flaky")
    assert (guess.of, guess.tries, guess.failed) == ("route", tries, round(failed / tries, 4))
    assert flaky.simulated.requests == 40
    assert flaky.simulated.failures == pytest.approx(failed + moved * failed / tries, abs=0.01)
    assert good.simulated.fallbacks == flaky.simulated.failures
    assert flaky.simulated.answered + good.simulated.answered == pytest.approx(40, abs=0.01)
    assert {"answered", "failures", "tokens", "median_ms"} <= set(flaky.simulated.estimates)
    assert not {"requests", "share"} & set(flaky.simulated.estimates), "who is tried first, the draw alone decides"
    assert report.simulated.answered == 40
    assert report.mean_tokens > 0


async def test_a_route_that_was_never_tried_is_said_to_be_unknown(tmp_path, virtual_time):
    providers = {"used": scripted(weight=5), "idle": scripted("say=hi", weight=0)}
    log = await driven(house_settings(tmp_path, providers), 10)
    report = report_on(log, {"idle": 5, "used": 0})
    (guess,) = report.guesses
    assert (guess.provider, guess.of, guess.tries, guess.answered, guess.median_ms) == ("idle", "nothing", 0, 1.0, None)
    assert report.providers[1].simulated.median_ms is None
    assert report.providers[1].simulated.tokens == report.providers[0].recorded.tokens, "what they really cost"


async def test_a_client_that_left_leaves_in_the_simulation_too(tmp_path, virtual_time):
    providers = {"slow": scripted("delay=1000", weight=1), "other": scripted("delay=1000", weight=0)}
    async with open_system(house_settings(tmp_path, providers), SeededClock(1), environ={}) as system:
        with system.request(wish("hi")):
            await trio.sleep(0.1)
        await trio.sleep(1)
        log = await log_of(system)
    report = report_on(log, {"slow": 0, "other": 1})
    assert (report.recorded.given_up, report.simulated.given_up, report.simulated.answered) == (1, 1, 0)
    assert report.providers[1].simulated.given_up == 1
    assert report.estimated == 1


async def test_a_window_counts_only_what_began_inside(tmp_path, virtual_time):
    log = await driven(house_settings(tmp_path), 20, seed=3)
    accepted = [event for event in log if event.type == "RequestAccepted"]
    fifth, tenth = accepted[4], accepted[9]
    for window, count in (
        (Window(first=fifth.position), 16),
        (Window(first=fifth.position + 1), 15),
        (Window(first_ms=fifth.recorded_at), 16),
        (Window(first_ms=fifth.recorded_at + 1), 15),
        (Window(last=tenth.position), 10),
        (Window(last_ms=tenth.recorded_at - 1), 9),
        (Window(first=fifth.position, last_ms=tenth.recorded_at - 1), 5),
    ):
        report = report_on(log, window=window)
        assert report.accepted == count, window
        assert_as_recorded(report)
    assert report_on(log, window=Window(last=tenth.position)).open == 1
    assert report_on(log, window=Window(first=10_000)).first is None
    assert WEIGHTS.keys() == {each.provider for each in report.providers}


async def test_an_order_that_the_log_does_not_tell_is_checked_against_the_record(tmp_path, virtual_time):
    """The beginning of the log is gone, and with it the configuration: the alphabet is right for one house and wrong for the other."""
    for names, right in (("abc", True), ("cab", False)):
        providers = {name: scripted(weight=10 + index) for index, name in enumerate(names)}
        log = await driven(house_settings(tmp_path / names, providers), 60, seed=SEED)
        assert_as_recorded(report_on(log))
        report = report_on(log[1:])
        assert report.order_assumed == report.accepted == 60
        assert (report.reproduced == 60) is right
        assert (report.moved == 0) is right


async def test_a_log_may_begin_in_the_middle_of_anything(tmp_path, virtual_time):
    log = await driven(busy_settings(tmp_path, "abgdo", dict.fromkeys(("alpha", "beta", "gamma", "delta", "omega"), 9)), 60,
                       chance=random.Random(SEED))  # fmt: skip
    for first in range(len(log)):
        report = report_on(log[first:], {"alpha": 3}, rules=Rules({("", ""): 5_000}))
        assert report.accepted == report.routed + report.joined + report.from_cache + report.untried + report.open
        assert report.recorded.requests == report.simulated.requests == report.routed
        for totals in (report.recorded, report.simulated):
            ended = totals.answered + totals.failed + totals.given_up
            assert ended == pytest.approx(totals.requests, abs=0.05)


def test_an_empty_log_has_an_empty_report():
    report = report_on([])
    assert (report.first, report.last, report.accepted, report.providers) == (None, None, 0, ())
    assert report.simulated == report.recorded
