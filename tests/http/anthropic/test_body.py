"""What a body asks for beside its messages. Pure: no gateway, no socket."""

import pytest

from llmux.actors.messages import Principal
from llmux.config import Limits, Settings
from llmux.failures import ClientFailure
from llmux.http.anthropic.body import messages_wish_of
from llmux.prompts import Sampling
from tests.http.anthropic.asking import HI, asked, prompt, says, text


def test_anthropics_words_become_the_canonical_ones():
    got = asked(
        model="claude/opus", system="s", stream=True, temperature=1, top_p=0.5, stop_sequences=["a", "b"], max_tokens=7
    )
    assert (got.wish.model, got.wish.stream, got.ignored, got.shows_thinking) == ("claude/opus", True, (), False)
    assert got.wish.prompt.system == "s"
    assert got.wish.prompt.sampling == Sampling(temperature=1.0, top_p=0.5, stop=("a", "b"), max_tokens=7)
    assert asked(stream=None).wish.stream is False


@pytest.mark.parametrize(
    ("fields", "effort", "ignored"),
    [
        ({}, None, ()),
        ({"thinking": {"type": "adaptive"}}, None, ()),
        ({"thinking": {"type": "enabled"}}, None, ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "low", ("thinking.budget_tokens",)),
        ({"thinking": {"type": "enabled", "budget_tokens": 4097}}, "medium", ("thinking.budget_tokens",)),
        ({"thinking": {"type": "enabled", "budget_tokens": 16384}}, "medium", ("thinking.budget_tokens",)),
        ({"thinking": {"type": "enabled", "budget_tokens": 16385}}, "high", ("thinking.budget_tokens",)),
        ({"thinking": {"type": "disabled"}}, "none", ()),
        ({"thinking": {"type": "between_tools"}}, None, ("thinking.type",)),
        ({"output_config": {"effort": "xhigh"}}, "xhigh", ()),
        ({"output_config": {"effort": "max"}}, "xhigh", ("output_config.effort",)),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, "none", ("output_config.effort",)),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}, "output_config": {"effort": "high"}},
            "high",
            ("thinking.budget_tokens",),
        ),
    ],
)
def test_thinking_is_an_effort_and_what_is_not_carried_out_to_the_letter_is_named(fields, effort, ignored):
    got = asked(**fields)
    assert (got.wish.prompt.sampling.reasoning_effort, got.ignored) == (effort, ignored)


@pytest.mark.parametrize(
    ("thinking", "shown"),
    [
        (None, False),
        ({"type": "disabled"}, False),
        ({"type": "adaptive"}, True),
        ({"type": "enabled", "budget_tokens": 1024}, True),
        ({"type": "adaptive", "display": "summarized"}, True),
        ({"type": "adaptive", "display": "omitted"}, False),
    ],
)
def test_thoughts_are_shown_to_whoever_asks_to_see_them(thinking, shown):
    assert asked(thinking=thinking).shows_thinking is shown


def test_a_schema_stands_in_either_of_its_places():
    form = {"type": "json_schema", "schema": {"type": "object"}}
    assert prompt(output_config={"format": form}).json_schema == {"type": "object"}
    assert prompt(output_format=form).json_schema == {"type": "object"}
    assert prompt(output_config={"effort": "low"}).json_schema is None


def test_what_changes_no_answer_is_taken_without_a_word():
    cached = text("s", cache_control={"type": "ephemeral", "ttl": "1h"})
    got = asked(
        [says("user", text("hi", cache_control={"type": "ephemeral"}))],
        system=[cached],
        cache_control={"type": "ephemeral"},
        metadata={"user_id": "u"},
        service_tier="auto",
        user_profile_id="p",
        speed="standard",
        tools=[],
        mcp_servers=[],
        no_such_field=1,
    )
    assert got.ignored == ()


def test_what_no_provider_can_do_is_left_out_and_named():
    fields = {"top_k": 5, "context_management": {"edits": []}, "compaction": {}, "diagnostics": {}, "fallbacks": []}
    assert asked(**fields, speed="fast").ignored == (*fields, "speed")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": [{"name": "f", "input_schema": {}}]}, "tools", "unsupported_parameter"),
        ({"tool_choice": {"type": "auto"}}, "tool_choice", "unsupported_parameter"),
        ({"mcp_servers": [{"url": "http://localhost"}]}, "mcp_servers", "unsupported_parameter"),
        ({"container": "c"}, "container", "unsupported_parameter"),
        ({"thread": "t"}, "thread", "unsupported_parameter"),
        ({"inference_geo": "eu"}, "inference_geo", "unsupported_parameter"),
        ({"messages": [*HI, says("assistant", "The answer is (")]}, "messages", "unsupported_parameter"),
        ({"messages": []}, "messages", "missing_messages"),
        ({"messages": [says("user", "")]}, "messages", "missing_messages"),
        ({"messages": [says("system", "only this")]}, "messages", "missing_messages"),
        ({"messages": [says("user", " \n")]}, "messages", "blank_message"),
        ({"messages": [says("tool", "x")]}, "messages[0].role", "invalid_role"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"model": ""}, "model", "invalid_request"),
        ({"model": None}, "model", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "invalid_type"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_type"),
        ({"temperature": 1.5}, "temperature", "invalid_type"),
        ({"stop_sequences": ["a", ""]}, "stop_sequences", "invalid_request"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "thinking.budget_tokens", "invalid_type"),
        ({"output_config": {"effort": "utmost"}}, "output_config.effort", "invalid_type"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(fields, param, code):
    with pytest.raises(ClientFailure) as caught:
        asked(**fields)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)


@pytest.mark.parametrize("name", ["model", "max_tokens", "messages"])
def test_three_fields_are_required(name):
    fields = {"model": '"m"', "max_tokens": "5", "messages": '[{"role":"user","content":"hi"}]'}
    data = "{" + ",".join(f'"{field}":{value}' for field, value in fields.items() if field != name) + "}"
    with pytest.raises(ClientFailure, match=f"`{name}`"):
        messages_wish_of(data.encode(), "/v1/messages", Principal(), Settings())


def test_counts_and_depths_are_bounded():
    deep: dict[str, object] = {}
    for _ in range(Limits().json_depth_max + 1):
        deep = {"a": deep}
    form = {"type": "json_schema", "schema": deep}
    for fields, param in (
        ({"messages": HI * (Limits().messages_max + 1)}, "messages"),
        ({"stop_sequences": ["a"] * (Limits().stop_sequences_max + 1)}, "stop_sequences"),
        ({"output_format": form}, "output_format.schema"),
        ({"output_config": {"format": form}}, "output_config.format.schema"),
    ):
        with pytest.raises(ClientFailure) as caught:
            asked(**fields)
        assert (caught.value.status, caught.value.param) == (422, param)
