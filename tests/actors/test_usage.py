"""Usage is what the log says: every figure equals a direct count over the events."""

from collections import Counter
from datetime import UTC, datetime

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from llmux import events
from llmux.actors.facts import EMPTY, evolve, load, plain
from llmux.actors.facts.usage import DAY_MS
from llmux.actors.opening import open_system
from llmux.actors.replaying import replay
from llmux.actors.usage import DIMENSIONS, FIGURES, day_of, day_text, rows, total
from llmux.clock import SeededClock
from llmux.eventstore import open_reader
from llmux.failures import ClientFailure
from llmux.prompts import Usage
from tests.actors.house import house_settings, log_of, scripted, wish
from tests.actors.test_facts import FACTS, recorded

# --- a direct count -------------------------------------------------------------------------------------------------


def counted(history, by=(), first_day=None, last_day=None) -> dict[tuple, Counter]:
    """What `rows` should say, counted from the events themselves, one after the other."""
    keys = {event.fact.key_id: event.fact for event in history if event.type == "KeyIssued"}
    groups: dict[tuple, Counter] = {}
    for event in history:
        figures, route = figures_of(event)
        day = event.recorded_at // DAY_MS
        if not figures or (first_day is not None and day < first_day) or (last_day is not None and day > last_day):
            continue
        key = keys.get(event.principal)
        names = {
            "day": datetime.fromtimestamp(day * 86400, UTC).strftime("%Y-%m-%d"),
            "key": event.principal,
            "user": key.user if key else None,
            "project": key.project if key else None,
            **dict(zip(("provider", "account", "model"), (part or None for part in route), strict=True)),
        }
        keyless = event.principal if key is None and {"user", "project"} & set(by) else ""
        groups.setdefault((*(names[each] for each in by), keyless), Counter()).update(figures)
    return groups


def figures_of(event) -> tuple[dict[str, int], tuple[str, str, str]]:
    """What one event adds, and on which route."""
    fact = event.fact
    nowhere = ("", "", "")
    match fact:
        case events.RequestCompleted():
            how = {"cache": "cached", "joined": "joined"}.get(fact.source)
            figures = {"requests": 1, "duration_ms": fact.duration_ms, **({how: 1} if how else {})}
            return figures, (fact.provider, fact.account, fact.model)
        case events.RequestFailed():
            return {"requests": 1, "failed": 1}, (
                fact.provider,
                fact.account if fact.provider else "",
                fact.model,
            )
        case events.RequestCancelled():
            return {"requests": 1, "cancelled": 1}, nowhere
        case events.RequestAbandoned():
            return {"requests": 1, "abandoned": 1}, nowhere
        case events.AttemptSucceeded():
            return {"attempts": 1, **msgspec.structs.asdict(fact.usage)}, (fact.provider, fact.account, fact.model)
        case events.AttemptFailed():
            return {"attempts": 1, "attempts_failed": 1}, (fact.provider, fact.account, fact.model)
        case events.AttemptCancelled():
            return {"attempts": 1, "attempts_cancelled": 1}, (fact.provider, fact.account, fact.model)
    return {}, nowhere


def as_groups(found) -> dict[tuple, Counter]:
    """Rows as `counted` gives them."""
    groups = {(*row.group.values(), row.principal): Counter(row.figures) for row in found}
    assert len(groups) == len(found)
    return groups


_usages = st.builds(Usage, *[st.integers(0, 5) for _ in Usage.__struct_fields__])
_more = {
    events.RequestCompleted: {"source": st.sampled_from(["flight", "joined", "cache"])},
    events.AttemptSucceeded: {"usage": _usages},
    events.RequestFailed: {"provider": st.sampled_from(["", "alpha"]), "account": st.sampled_from(["", "default"])},
}
_spending = [row for row in FACTS if row[0] in ("key", "request", "flight")]
_steps = st.sampled_from(_spending).flatmap(
    lambda row: st.tuples(
        st.just(row[0]), st.sampled_from(["r1", "r2", "r3"]), st.builds(row[1], **{**row[2], **_more.get(row[1], {})})
    )
)


@st.composite
def spending_histories(draw):
    """Histories of several principals, with and without keys, over a few days."""
    history = []
    for index, step in enumerate(draw(st.lists(_steps, max_size=30))):
        event = recorded(index + 1, *step)
        principal = draw(st.sampled_from(["r1", "r2", "local", "api-key"]))
        at = (20_000 + draw(st.integers(0, 3))) * DAY_MS + draw(st.sampled_from([0, DAY_MS // 2, DAY_MS - 1]))
        history.append(msgspec.structs.replace(event, principal=principal, recorded_at=at))
    return history


_by = st.lists(st.sampled_from(DIMENSIONS), unique=True, max_size=3)
_days = st.none() | st.integers(19_999, 20_004)


@given(spending_histories(), _by, _days, _days)
def test_usage_equals_a_direct_count_over_the_events(history, by, first_day, last_day):
    found = rows(evolve(EMPTY, history), by=by, first_day=first_day, last_day=last_day)
    expected = counted(history, by, first_day, last_day)
    assert {group: +figures for group, figures in as_groups(found).items()} == (
        {group: +figures for group, figures in expected.items()} or ({} if by else {("",): Counter()})
    )
    assert total(found) == {name: sum(each[name] for each in expected.values()) for name in FIGURES}


@given(spending_histories(), st.integers(0, 30), _by)
def test_usage_from_a_stored_state_and_the_tail_is_that_of_the_whole_log(history, cut, by):
    stored = msgspec.json.decode(msgspec.json.encode(plain(evolve(EMPTY, history[:cut]))))
    assert rows(evolve(load(stored), history[cut:]), by=by) == rows(evolve(EMPTY, history), by=by)


@given(spending_histories())
def test_every_grouping_adds_up_to_the_same(history):
    facts = evolve(EMPTY, history)
    assert {tuple(total(rows(facts, by=[each])).values()) for each in DIMENSIONS} == {
        tuple(total(rows(facts)).values())
    }


# --- the whole house ------------------------------------------------------------------------------------------------


async def test_what_is_spent_is_counted_once_and_by_whom_it_was_asked(tmp_path, virtual_time):
    """Answered, joined, from the cache, after a retry and a fallback, failed and cancelled: as the log says, also later."""
    providers = {
        "one": scripted("fail=overloaded,times=2", weight=50, models=("hang", "say=a+b+c,gap=100", "fail=refused")),
        "two": scripted("say=x+y", weight=0),
    }
    settings = house_settings(tmp_path, providers)
    async with open_system(settings, SeededClock(3), environ={}) as system:
        for _ in range(2):
            with system.request(wish("fall back", use_cache=True)) as request:
                await request.answer()
        slow = wish("slow", model="say=a+b+c,gap=100", use_cache=True)
        with system.request(slow) as first:
            await first.started()
            with system.request(slow) as second:
                await trio.sleep(0.05)
                first.leave()
                await second.answer()
        with (
            system.request(wish("no", model="fail=refused")) as refused,
            pytest.raises(Exception, match="fails as it was told"),
        ):
            await refused.answer()
        with system.request(wish("wait", model="hang")) as hanging:
            with trio.move_on_after(1):
                await hanging.started()
        await hanging.over()
        live, history = system.facts, await log_of(system)
    figures = total(rows(live))
    assert figures["requests"] == 6
    assert {name: figures[name] for name in ("cached", "joined", "failed", "cancelled", "abandoned")} == {
        "cached": 1, "joined": 1, "failed": 1, "cancelled": 2, "abandoned": 0,
    }  # fmt: skip
    assert (figures["attempts_failed"], figures["attempts_cancelled"]) == (
        sum(event.type == "AttemptFailed" for event in history),
        1,
    )
    assert figures["attempts"] == sum(event.type == "AttemptStarted" for event in history)
    (one,) = [row for row in rows(live, by=["model"]) if row.group["model"] == "say=a+b+c,gap=100"]
    assert one.figures["output_tokens"] == 3, "the one who started it has left, and it is charged all the same, once"
    for by in ([], ["provider", "model"], ["user", "day"]):
        expected = counted(history, by)
        assert {group: +found for group, found in as_groups(rows(live, by=by)).items()} == {
            group: +found for group, found in expected.items()
        }
    async with open_system(settings, SeededClock(4), environ={}) as system:
        assert system.facts.usage == live.usage
    async with open_reader(settings.data_dir, settings.limits) as reader:
        assert (await replay(reader, snapshots=False)).usage == live.usage


async def test_a_request_that_a_crash_left_open_counts_for_the_one_who_asked(tmp_path):
    settings = house_settings(tmp_path, {"one": scripted("hang")})
    with trio.fail_after(20), trio.CancelScope() as crash:
        async with open_system(settings, SeededClock(), environ={}) as system:
            system.request(wish("hi"))
            while system.active_requests == 0:
                await trio.sleep(0.01)
            crash.cancel()
            await trio.sleep_forever()
    async with open_system(settings, SeededClock(1), environ={}) as system:
        (row,) = rows(system.facts, by=["key"])
    assert (row.group, row.figures["requests"], row.figures["abandoned"]) == ({"key": "local"}, 1, 1)


# --- groups and days ------------------------------------------------------------------------------------------------


def test_a_principal_without_a_key_has_no_user_and_a_row_of_its_own():
    history = [
        recorded(1, "key", "k", events.KeyIssued(key_id="k", secret_sha256="0", user="local", project="p")),
        *(
            msgspec.structs.replace(
                recorded(n, "request", f"r{n}", events.RequestCancelled(by="client", duration_ms=1)), principal=who
            )
            for n, who in enumerate(("k", "local", "api-key", "local"), 2)
        ),
    ]
    found = rows(evolve(EMPTY, history), by=["user", "project"])
    assert [(row.group, row.principal, row.figures["requests"]) for row in found] == [
        ({"user": "local", "project": "p"}, "", 1),
        ({"user": None, "project": None}, "api-key", 1),
        ({"user": None, "project": None}, "local", 2),
    ]


def test_a_dimension_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="by colour"):
        rows(EMPTY, by=["colour"])


NOW = int(datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "day"),
    [("2026-11-22", "2026-11-22"), ("0d", "2026-11-22"), ("7d", "2026-11-15"), ("99999d", "1970-01-01")],
)
def test_a_day_is_a_date_or_so_many_days_ago(text, day):
    assert day_text(day_of(text, NOW, "from")) == day


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "20261122", "2026-W47-7", "-1d", "7", "٢٠٢٦-11-22"])
def test_what_is_no_day_is_a_sentence(text):
    with pytest.raises(ClientFailure, match=r"from: .* is no day.*2026-11-22"):
        day_of(text, NOW, "from")
