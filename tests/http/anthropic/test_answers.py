"""Answers of /v1/messages as Anthropic's clients read them, whole and refused."""

import json
from typing import Any

import msgspec
import pytest

from llmux.failures import Excluded
from llmux.http.anthropic.errors import error_body, error_type
from llmux.http.anthropic.message import usage_of
from llmux.http.errors import Problem
from llmux.prompts import Usage
from tests.http.anthropic.asking import HI, body, says
from tests.http.served import gateway, settings_of

MESSAGES = "/v1/messages"


def told_of(problem: Problem) -> Any:
    """The `error` in the body of a failure."""
    return json.loads(msgspec.json.encode(error_body(problem, "id")))["error"]


async def test_an_answer_has_anthropics_fields_and_real_usage(door):
    reply = await door.post(MESSAGES, body(), {"anthropic-version": "2023-06-01", "anthropic-beta": "x"})
    answer = reply.json
    meta = answer.pop("_meta")
    assert reply.status == 200
    assert answer == {
        "type": "message",
        "id": "msg_" + reply.headers["request-id"].replace("-", ""),
        "role": "assistant",
        "model": "say=hello+from+claude",
        "content": [{"type": "text", "text": "hello from claude", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": {
            "input_tokens": 1,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 3,
            "output_tokens_details": {"thinking_tokens": 0},
        },
    }
    assert (meta["provider"], meta["attempts"], meta["cached"], meta["ignored"]) == ("claude", 1, False, [])
    assert meta["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]
    assert (reply.headers["x-llmux-provider"], reply.headers["x-llmux-cache"]) == ("claude", "miss")


def test_what_a_cache_was_involved_in_stands_apart():
    got = usage_of(Usage(10, 5, cached_input_tokens=6, cache_write_input_tokens=3, reasoning_tokens=2))
    assert (got.input_tokens, got.cache_read_input_tokens, got.cache_creation_input_tokens) == (1, 6, 3)
    assert (got.output_tokens, got.output_tokens_details.thinking_tokens) == (5, 2)


async def test_thoughts_come_first_for_whoever_asked_and_for_nobody_else(door):
    thinking = {"type": "adaptive"}
    model = "reason=let+me+see,say=42"
    shown = (await door.post(MESSAGES, body(model=model, thinking=thinking))).json["content"]
    assert shown[0] == {"type": "thinking", "thinking": "let me see", "signature": ""}
    assert shown[1]["text"] == "42"
    plain = (await door.post(MESSAGES, body(model=model))).json["content"]
    assert [block["type"] for block in plain] == ["text"]


@pytest.mark.parametrize(
    ("fields", "reason", "sequence", "said"),
    [
        ({"max_tokens": 2}, "max_tokens", None, "one two"),
        ({"stop_sequences": ["four", "three"]}, "stop_sequence", "three", "one two"),
        ({"stop_sequences": ["five"]}, "end_turn", None, "one two three four"),
        ({"model": "finish=content_filter,say=no"}, "refusal", None, "no"),
    ],
)
async def test_it_says_why_the_answer_ended(door, fields, reason, sequence, said):
    answer = (await door.post(MESSAGES, body(**{"model": "say=one+two+three+four", **fields}))).json
    assert (answer["stop_reason"], answer["stop_sequence"]) == (reason, sequence)
    assert answer["content"][0]["text"].strip() == said


async def test_what_was_ignored_is_named_and_a_strict_request_is_refused_for_it(door):
    wished = body(top_k=5, temperature=0.5)
    reply = await door.post(MESSAGES, wished)
    assert reply.json["_meta"]["ignored"] == ["top_k", "temperature"]
    assert reply.headers["x-llmux-ignored"] == "top_k, temperature"
    for fields in ({"top_k": 5}, {"temperature": 0.5}):
        refused = await door.post(MESSAGES, body(**fields), {"x-llmux-strict": "true"})
        assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error")
        assert next(iter(fields)) in refused.json["error"]["message"]


async def test_a_refusal_has_anthropics_shape_and_the_requests_id(door):
    reply = await door.post(MESSAGES, body(tools=[{"name": "f", "input_schema": {}}]))
    assert reply.status == 400
    assert reply.json == {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "tools: tools are not supported yet.",
            "details": {"error_code": "unsupported_parameter", "param": "tools"},
        },
        "request_id": reply.headers["request-id"],
    }
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("status", "hopeless", "type"),
    [
        (400, True, "invalid_request_error"),
        (401, True, "authentication_error"),
        (403, True, "permission_error"),
        (404, True, "not_found_error"),
        (405, True, "invalid_request_error"),
        (408, False, "timeout_error"),
        (409, False, "conflict_error"),
        (413, True, "request_too_large"),
        (415, True, "invalid_request_error"),
        (422, True, "invalid_request_error"),
        (429, False, "rate_limit_error"),
        (500, False, "api_error"),
        (502, False, "api_error"),
        (503, False, "overloaded_error"),
        (503, True, "api_error"),
        (504, False, "timeout_error"),
        (507, True, "api_error"),
    ],
)
def test_each_status_has_anthropics_word(status, hopeless, type):
    assert error_type(Problem(status, "code", "words", hopeless=hopeless)) == type


def test_a_conversation_that_is_too_long_is_told_in_anthropics_words():
    told = told_of(Problem(400, "context_length_exceeded", "it has 9 tokens"))
    assert told["message"] == "prompt is too long: it has 9 tokens"
    assert told["details"] == {"error_code": "context_length_exceeded"}


@pytest.mark.parametrize(
    ("model", "status", "type", "code"),
    [
        ("claude/fail=quota_exhausted,resets=3600", 429, "rate_limit_error", "insufficient_quota"),
        ("claude/fail=context_too_long", 400, "invalid_request_error", "context_length_exceeded"),
        ("claude/fail=timed_out", 504, "timeout_error", "provider_timeout"),
        ("no-such-model", 404, "not_found_error", "model_not_found"),
    ],
)
async def test_a_failure_of_the_provider_has_its_status(door, model, status, type, code):
    for stream in (False, True):
        reply = await door.post(MESSAGES, body(model=model, stream=stream))
        error = reply.json["error"]
        assert (reply.status, error["type"], error["details"]["error_code"]) == (status, type, code)


def test_where_nobody_can_answer_it_says_why():
    why = Excluded("claude", "", "m", reason="logged_out", sentence="Log in.")
    problem = Problem(503, "no_provider_available", "none", excluded=(why,))
    assert told_of(problem)["details"]["excluded"] == [msgspec.to_builtins(why)]


async def test_keys_wrong_paths_and_media_types_are_told_in_this_dialect(tmp_path):
    key = "sk-a-key-for-the-tests-0000000000000000"
    async with gateway(settings_of(tmp_path, api_key_required=True, api_key=key)) as here:
        for path in (MESSAGES, f"{MESSAGES}/count_tokens"):
            reply = await here.post(path, body())
            assert (reply.status, reply.json["error"]["type"]) == (401, "authentication_error")
        wrong = await here.post(MESSAGES, body(), {"x-api-key": "wrong"})
        assert wrong.json["error"]["details"]["error_code"] == "invalid_api_key"
        assert (await here.post(MESSAGES, body(), {"x-api-key": key})).status == 200
        for path, status, type in (
            (MESSAGES, 405, "invalid_request_error"),
            (f"{MESSAGES}/batches", 404, "not_found_error"),
        ):
            told = await here.get(path)
            assert (told.status, told.json["type"], told.json["error"]["type"]) == (status, "error", type)
        text = await here.post(MESSAGES, body(), {"x-api-key": key, "content-type": "text/plain"})
        assert (text.status, text.json["error"]["type"]) == (415, "invalid_request_error")


async def test_limits_have_statuses_of_their_own(tmp_path):
    async with gateway(settings_of(tmp_path, limits={"body_bytes_max": 5000, "messages_max": 3})) as here:
        large = await here.post(MESSAGES, body([says("user", "x" * 5000)]))
        assert (large.status, large.json["error"]["type"]) == (413, "request_too_large")
        for path in (MESSAGES, f"{MESSAGES}/count_tokens"):
            many = await here.post(path, body(HI * 4))
            assert (many.status, many.json["error"]["details"]["param"]) == (422, "messages")
