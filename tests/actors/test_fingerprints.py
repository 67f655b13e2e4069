"""Fingerprints: whatever can change an answer changes the fingerprint, and nothing else does."""

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import pytest

from llmux.actors.fingerprints import Fingerprints
from llmux.actors.messages import Principal, Wish
from llmux.prompts import Embedding, Image, Message, Prompt, Sampling, Text, Tool, ToolCall, ToolChoice, ToolResult

FINGERPRINTS = Fingerprints(b"a secret for tests")
NO_PART_OF_THE_ANSWER = {
    "idempotency",
    "endpoint",
    "stream",
    "use_cache",
    "fresh",
    "cache_ttl_ms",
    "timeout_ms",
    "tries",
}
"""the fields of a wish that say how it came, how long it may take, and what becomes of the answer"""
CONTENT = (Text("look"), Image("image/png", "QUJD"))
FULL = Prompt(
    messages=(
        Message("user", CONTENT),
        Message("assistant", (Text("let me see"), ToolCall("1", "find", "{}"))),
        Message("user", (ToolResult("1", CONTENT),)),
    ),
    system="be short",
    sampling=Sampling(0.5, 0.5, ("END",), 100, 7, "low"),
    json_schema={"type": "object"},
    tools=(Tool("find", "finds", {"type": "object"}),),
    tool_choice=ToolChoice("required", ("find",)),
    embedding=Embedding(("text",), 8),
)
WISH = Wish(prompt=FULL, principal=Principal(project="one"), endpoint="/api/smart", provider="alpha", model="m")


def others(value: Any, kind: Any) -> list[Any]:
    """Values that differ from this one of type `kind` in one place each, so that every place is changed once."""
    if isinstance(value, msgspec.Struct):
        hints = typing.get_type_hints(type(value))
        return [
            msgspec.structs.replace(value, **{field: other})
            for field in value.__struct_fields__
            for other in others(getattr(value, field), hints[field])
        ]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, str):
        closed = [
            each for part in parts_of(kind) if typing.get_origin(part) is Literal for each in typing.get_args(part)
        ]
        return [next(each for each in closed if each != value)] if closed else [value + "x", ""]
    if isinstance(value, int | float):
        return [value + 1, *([None] if type(None) in parts_of(kind) else [])]
    if isinstance(value, tuple):
        inside = typing.get_args(kind)[0]
        changed = [
            (*value[:place], other, *value[place + 1 :])
            for place, each in enumerate(value)
            for other in others(each, inside)
        ]
        return [*changed, value[:-1], value + value[-1:], *([value[::-1]] if len(value) > 1 else [])]
    if isinstance(value, Mapping):
        return [{**value, "more": 1}, {}, *([None] if type(None) in parts_of(kind) else [])]
    raise AssertionError(f"no other value is known for a {kind}: teach this test, and ask whether it changes an answer")


def parts_of(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)


def test_every_place_of_a_prompt_counts():
    seen = {FINGERPRINTS.of(WISH): FULL}
    changed = others(FULL, Prompt)
    assert len(changed) > 60
    for prompt in changed:
        fingerprint = FINGERPRINTS.of(msgspec.structs.replace(WISH, prompt=prompt))
        assert seen.setdefault(fingerprint, prompt) == prompt, "two prompts that differ have one fingerprint"
        assert prompt != FULL
    assert len(seen) > 60


def test_the_prompt_of_this_test_has_every_field_filled():
    """Else a field could be missed by the walk above."""

    def kinds(value: Any) -> set[type]:
        if isinstance(value, msgspec.Struct):
            return {type(value)}.union(*(kinds(getattr(value, field)) for field in value.__struct_fields__))
        return set().union(*map(kinds, value)) if isinstance(value, tuple) else set()

    assert kinds(FULL) == {
        Prompt, Message, Text, Image, ToolCall, ToolResult, Tool, ToolChoice, Sampling, Embedding
    }  # fmt: skip
    for value in (FULL, FULL.sampling, FULL.embedding):
        assert None not in [getattr(value, field) for field in value.__struct_fields__]


def test_every_other_field_of_a_wish_either_counts_or_is_known_not_to():
    different = {
        "provider": "beta",
        "model": "n",
        "endpoint": "/v1/chat/completions",
        "stream": True,
        "use_cache": False,
        "fresh": True,
        "cache_ttl_ms": 5,
        "timeout_ms": 5,
        "tries": 2,
        "fallback": True,
        "idempotency": "a key",
    }
    assert different.keys() == set(Wish.__struct_fields__) - {"prompt", "principal"}
    for field, value in different.items():
        other = FINGERPRINTS.of(msgspec.structs.replace(WISH, **{field: value}))
        assert (other == FINGERPRINTS.of(WISH)) == (field in NO_PART_OF_THE_ANSWER), field


def test_of_a_principal_the_project_counts_and_nothing_else_unless_projects_share():
    sharing = Fingerprints(b"a secret for tests", shared=True)
    different = {"id": "k", "user": "ann", "project": "two", "scopes": frozenset({"use"})}
    assert different.keys() == set(Principal.__struct_fields__)
    for field, value in different.items():
        other = msgspec.structs.replace(WISH, principal=msgspec.structs.replace(WISH.principal, **{field: value}))
        assert (FINGERPRINTS.of(other) == FINGERPRINTS.of(WISH)) == (field != "project"), field
        assert sharing.of(other) == sharing.of(WISH)


def test_the_order_of_a_schema_counts():
    """A model writes its fields in the order of the schema."""
    orders = [{"a": 1, "b": 2}, {"b": 2, "a": 1}]
    first, second = (
        FINGERPRINTS.of(msgspec.structs.replace(WISH, prompt=msgspec.structs.replace(FULL, json_schema=schema)))
        for schema in orders
    )
    assert first != second


@pytest.mark.parametrize("model", ["auto", "smart"])
def test_the_names_for_any_model_are_one(model: str):
    names = [FINGERPRINTS.of(msgspec.structs.replace(WISH, model=each)) for each in ("", model)]
    assert names[0] == names[1]


def test_another_secret_makes_other_fingerprints():
    assert Fingerprints(b"another secret").of(WISH) != FINGERPRINTS.of(WISH)
