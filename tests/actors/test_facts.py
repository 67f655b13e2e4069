"""Facts are a fold: deterministic, total, the same in one go and in pieces."""

import json
import os
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux import events
from llmux.actors.facts import EMPTY, evolve, load, plain
from llmux.actors.snapshots import encoded, json_of
from llmux.events import RecordedEvent, canonical, type_of
from llmux.failures import UnknownEvent
from llmux.prompts import Usage

_names = st.sampled_from(["alpha", "beta"])
_ids = st.sampled_from(["r1", "r2", "r3"])
_where = {"provider": _names, "account": st.just("default"), "model": st.sampled_from(["m", "*"])}
_attempt = {**_where, "number": st.integers(1, 3)}
_account = {"provider": _names, "account": st.just("default")}
_one = st.integers(1, 9)
_usage = st.builds(Usage, input_tokens=st.integers(0, 9), output_tokens=st.integers(0, 9))
_success = {
    "served_model": st.just("m"),
    "finish": st.just("stop"),
    "first_chunk_ms": _one,
    "duration_ms": _one,
    "usage": _usage,
}
_accepted = {
    "endpoint": st.just("/api/smart"),
    "model": st.just(""),
    "stream": st.booleans(),
    "pinned": st.booleans(),
    "fingerprint": st.just("f"),
    "prompt_bytes": _one,
    "flight": _ids,
    "candidates": st.just([]),
    "exclusions": st.just([]),
    "draw": _one,
    "cache": st.sampled_from(["hit", "miss", "off"]),
    "idempotency": st.sampled_from(["", "i1", "i2"]),
}
_limits = st.builds(events.KeyLimits, tokens_per_day=st.none() | _one, models=st.lists(_names, max_size=2))
FACTS = [
    ("gateway", events.GatewayStarted, {"version": st.just("3"), "routing": st.just({})}),
    ("gateway", events.GatewayStopped, {"reason": st.just("stop")}),
    ("gateway", events.ActorCrashed, {"actor": _names, "error": st.just("E")}),
    ("gateway", events.ActorRestarted, {"actor": _names, "restarts": st.integers(1, 3)}),
    (
        "log-snapshots",
        events.SnapshotTaken,
        {"through": _one, "file": st.just("f"), "sha256": st.just("00"), "state_schema": _one},
    ),
    (
        "log-archives",
        events.LogArchived,
        {
            "first": _one,
            "through": _one,
            "head": st.just("00"),
            "file": st.just("f"),
            "file_bytes": _one,
            "sha256": st.just("00"),
            "state_sha256": st.just("00"),
            "state_schema": _one,
        },
    ),
    ("log-skips", events.EventSkipped, {"skipped": _one, "reason": st.just("r")}),
    ("log-restores", events.LogRestored, {"position": _one, "head": st.just("00")}),
    ("log-keys", events.ChainKeyChanged, {"before": st.just(""), "after": st.just("hmac:00")}),
    (
        "log-losses",
        events.LossAccepted,
        {
            "position": _one,
            "head": st.just("00"),
            "last_position": _one,
            "witnessed_position": _one,
            "witnessed_head": st.just("00"),
            "reason": st.just("r"),
        },
    ),
    ("content", events.ContentForgotten, {"scope": st.just("request"), "answers": _one, "request": _ids}),
    ("key", events.KeyIssued, {"key_id": _ids, "secret_sha256": st.just("00"), "user": _names, "project": _names}),
    ("key", events.KeyLimited, {"key_id": _ids, "limits": _limits, "expires_at": st.none() | st.integers(0, 9**9)}),
    ("key", events.KeyRotated, {"key_id": _ids, "secret_sha256": st.just("11")}),
    ("key", events.KeyRevoked, {"key_id": _ids}),
    (
        "quota",
        events.QuotaReported,
        {**_where, "window": st.just("w"), "status": st.just("x"), "used_percent": st.integers(0, 100)},
    ),
    ("quota", events.QuotaExhausted, {**_where, "evidence": st.just("e"), "until": st.integers(0, 99)}),
    (
        "quota",
        events.ProviderCooled,
        {**_where, "kind": st.just("k"), "evidence": st.just("e"), "until": st.integers(0, 99)},
    ),
    ("quota", events.ProviderRestored, _where),
    ("quota", events.QuotaReset, {"provider": _names}),
    ("cache", events.CacheCleared, {"entries": st.integers(0, 9)}),
    ("provider", events.LoginExpired, {**_account, "evidence": st.just("e")}),
    ("provider", events.LoginRestored, _account),
    ("provider", events.ProviderIneligible, {**_account, "evidence": st.just("e")}),
    ("provider", events.WorkerLost, {**_account, "exit_status": st.integers(-9, 1)}),
    ("request", events.RequestAccepted, _accepted),
    ("request", events.RequestJoined, {"flight": _ids}),
    (
        "request",
        events.RequestCompleted,
        {**_where, "finish": st.just("stop"), "attempts": _one, "duration_ms": _one, "usage": _usage},
    ),
    (
        "request",
        events.RequestFailed,
        {"code": st.just("c"), "blame": st.just("provider"), "attempts": _one, "duration_ms": _one},
    ),
    ("request", events.RequestCancelled, {"by": st.just("client"), "duration_ms": _one}),
    ("request", events.RequestAbandoned, {"flight": _ids}),
    ("flight", events.AttemptStarted, _attempt),
    ("flight", events.AttemptSucceeded, {**_attempt, **_success}),
    (
        "flight",
        events.AttemptFailed,
        {**_attempt, "kind": st.just("crashed"), "evidence": st.just("e"), "chunks": _one, "duration_ms": _one},
    ),
    ("flight", events.AttemptCancelled, {**_attempt, "chunks": _one, "duration_ms": _one}),
]
_steps = st.sampled_from(FACTS).flatmap(lambda row: st.tuples(st.just(row[0]), _ids, st.builds(row[1], **row[2])))


def recorded(position: int, category: str, id: str, fact: events.Event) -> RecordedEvent:
    stream = category if category in ("gateway", "cache", "content") or "-" in category else f"{category}-{id}"
    return RecordedEvent(
        position,
        stream,
        0,
        type_of(fact),
        fact.schema,
        str(position),
        1000 + position,
        "local",
        id,
        "",
        canonical(fact),
        b"",
        b"",
    )


def history(steps) -> list[RecordedEvent]:
    return [recorded(index + 1, *step) for index, step in enumerate(steps)]


histories = st.lists(_steps, max_size=40).map(history)


def test_every_event_type_is_in_these_histories():
    """Whoever adds an event adds it here: no type may break the fold."""
    assert {row[1] for row in FACTS} == set(events.TYPES.values())


@given(histories, st.integers(0, 40))
def test_facts_do_not_depend_on_how_the_log_is_cut_into_pages(history, cut):
    whole = evolve(EMPTY, history)
    in_two = evolve(evolve(EMPTY, history[:cut]), history[cut:])
    assert whole == in_two
    assert plain(whole) == plain(in_two)


@given(histories)
def test_facts_can_be_stored_and_loaded(history):
    facts = evolve(EMPTY, history)
    stored = json.loads(json.dumps(plain(facts)))
    assert load(stored) == facts
    assert plain(load(stored)) == plain(facts)


@given(histories)
def test_facts_have_one_text_that_is_canonical_json(history):
    stored = plain(evolve(EMPTY, history))
    assert encoded(evolve(EMPTY, history)) == msgspec.json.encode(stored, order="sorted")
    assert json_of({'b "ü\n': {}, "a": [{"y": 1, "x": {}}], "": {'k "': {"y": 1, "x": 2}, "é": None}}) == (
        '{"":{"k \\"":{"x":2,"y":1},"é":null},"a":[{"x":{},"y":1}],"b \\"ü\\n":{}}'.encode()
    )


def test_facts_that_an_older_version_stored_lack_what_is_new():
    stored = plain(evolve(EMPTY, [recorded(1, "cache", "r1", events.CacheCleared(entries=1))]))
    del stored["usage"]
    del stored["gateway"]["stops"]
    loaded = load(stored)
    assert (loaded.position, loaded.usage, loaded.gateway.stops) == (1, EMPTY.usage, 0)


@pytest.mark.parametrize("stored", [{}, {"position": "x"}, {"position": 1, "keys": []}, {"position": 1, "log": None}])
def test_what_is_no_facts_is_not_loaded(stored):
    with pytest.raises(ValueError, match="no facts"):
        load(stored)


@given(histories)
def test_facts_never_change_once_they_are_published(history):
    middle = evolve(EMPTY, history[: len(history) // 2])
    before = json.dumps(plain(middle))
    evolve(middle, history[len(history) // 2 :])
    assert json.dumps(plain(middle)) == before


@given(histories)
def test_no_attempt_and_no_request_stays_open_after_its_end(history):
    facts = evolve(EMPTY, history)
    ended = {}
    for event in history:
        if event.type == "RequestAccepted":
            ended[event.correlation_id] = False
        elif event.type in ("RequestCompleted", "RequestFailed", "RequestCancelled", "RequestAbandoned"):
            ended[event.correlation_id] = True
    assert set(facts.requests.open) == {id for id, over in ended.items() if not over}


def test_an_unknown_event_stops_the_fold_with_its_position():
    known = recorded(1, "cache", "r1", events.CacheCleared(entries=1))
    unknown = RecordedEvent(2, "x", 0, "FromTheFuture", 1, "2", 0, "local", "", "", b"{}", b"", b"")
    with pytest.raises(UnknownEvent, match="osition 2"):
        evolve(EMPTY, [known, unknown])


def test_an_unknown_event_that_somebody_skipped_means_nothing():
    unknown = RecordedEvent(1, "x", 0, "FromTheFuture", 1, "2", 0, "local", "", "", b"{}", b"", b"")
    known = recorded(2, "cache", "r1", events.CacheCleared(entries=1))
    facts = evolve(EMPTY, [unknown, known], skipped={1})
    assert (facts.position, facts.cache.cleared_at) == (2, 1002)


def test_a_gap_in_the_log_is_not_folded_over():
    with pytest.raises(ValueError, match="position 3"):
        evolve(EMPTY, [recorded(3, "cache", "r1", events.CacheCleared(entries=1))])


def test_replay_does_not_depend_on_the_hash_seed(tmp_path):
    program = (
        "import json,sys; from llmux.actors.facts import EMPTY, evolve, plain; from llmux.events import RecordedEvent;"
        "import msgspec; history = msgspec.json.decode(sys.stdin.buffer.read(), type=list[RecordedEvent]);"
        "print(json.dumps(plain(evolve(EMPTY, history))))"
    )
    steps = [
        ("provider", "r1", events.LoginExpired(provider=f"p{n}", account="default", evidence="e")) for n in range(20)
    ]
    steps += [
        ("key", f"k{n}", events.KeyIssued(key_id=f"k{n}", secret_sha256="0", user="u", project="p")) for n in range(20)
    ]
    given_history = msgspec.json.encode(history(steps))
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=given_history,
            capture_output=True,
            check=True,
            env={"PATH": os.environ["PATH"], "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
