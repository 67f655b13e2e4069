"""LLMux's own dialect, field by field as clients of v3 read it."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from llmux.actors.messages import Principal
from llmux.config import ProviderSettings
from llmux.failures import ClientFailure
from llmux.http.native import wish_of
from llmux.prompts import Sampling, user
from tests.http.served import settings_of

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
V3_FIELDS = {
    "model",
    "created_at",
    "response",
    "done",
    "context",
    "total_duration",
    "provider",
    "request_id",
    "smart",
    "cached",
}


def wish(body: bytes, endpoint: str = "/api/smart"):
    return wish_of(body, endpoint, Principal(), settings_of(Path("/nowhere")))


async def test_a_smart_answer_has_every_field_of_v3(door):
    reply = await door.post("/api/smart", {"prompt": "hi"})
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    body = reply.json
    assert set(body) >= V3_FIELDS
    assert (body["response"], body["provider"], body["model"]) == (
        "hello from claude",
        "claude",
        "say=hello+from+claude",
    )
    assert (body["done"], body["context"], body["smart"], body["cached"]) == (True, [], True, False)
    assert ISO.fullmatch(body["created_at"])
    assert isinstance(body["total_duration"], int)
    assert body["total_duration"] % 1_000_000 == 0
    assert body["request_id"] == reply.headers["x-request-id"]
    assert body["usage"]["input_tokens"] == 1
    assert body["usage"]["output_tokens"] == 3
    assert body["usage"]["total_tokens"] == 4
    assert body["finish_reason"] == "stop"


async def test_the_second_equal_smart_request_is_cached_and_says_so(door):
    await door.post("/api/smart", {"prompt": "hi"})
    second = await door.post("/api/smart", {"prompt": "hi"})
    assert second.json["cached"] is True
    assert second.headers["x-llmux-cache"] == "hit"
    fresh = await door.post("/api/smart", {"prompt": "hi", "options": {"useCache": False}})
    assert fresh.json["cached"] is False


async def test_generate_asks_the_named_provider_and_has_no_smart_fields(door):
    reply = await door.post("/api/generate", {"prompt": "hi", "provider": "gemini"})
    assert reply.json["provider"] == "gemini"
    assert not {"smart", "cached"} & set(reply.json)


async def test_generate_without_provider_asks_the_default_one_and_never_the_cache(door):
    for _ in range(2):
        reply = await door.post("/api/generate", {"prompt": "hi"})
        assert reply.json["provider"] == "claude"
        assert reply.headers["x-llmux-cache"] == "miss"


async def test_generate_takes_a_model_of_any_provider(door):
    reply = await door.post("/api/generate", {"prompt": "hi", "model": "codex-plain"})
    assert (reply.json["provider"], reply.json["model"]) == ("codex", "codex-plain")


@pytest.mark.parametrize("provider", ["claude", "gemini", "codex", "ollama"])
async def test_each_provider_has_a_path_of_its_own(door, provider):
    reply = await door.post(f"/{provider}", {"prompt": "hi"})
    assert reply.json["response"] == f"hello from {provider}"
    streamed = await door.post(f"/{provider}", {"prompt": "hi", "stream": True})
    assert "".join(each["content"] for each in streamed.frames[:-1]) == f"hello from {provider}"


async def test_a_smart_stream_has_the_frames_of_v3(door):
    reply = await door.post("/api/smart", {"prompt": "hi", "stream": True})
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["cache-control"] == "no-cache"
    first, *pieces, last, done = reply.frames
    assert first == {"provider": "claude", "started": True}
    assert [piece["content"] for piece in pieces] == ["hello ", "from ", "claude"]
    assert all(piece["done"] is False for piece in pieces)
    assert (last["content"], last["done"], last["provider"]) == ("", True, "claude")
    assert isinstance(last["duration"], int)
    assert last["usage"]["output_tokens"] == 3
    assert last["request_id"] == reply.headers["x-request-id"]
    assert done == "[DONE]"


async def test_a_generate_stream_does_not_begin_with_the_started_frame(door):
    reply = await door.post("/api/generate", {"prompt": "hi", "stream": True})
    assert reply.frames[0] == {"content": "hello ", "done": False}


@pytest.mark.parametrize("prompt", [None, "", "  \n", 5, [], {"a": 1}, True])
async def test_without_a_prompt_the_answer_is_the_sentence_of_v3(door, prompt):
    reply = await door.post("/api/smart", {"prompt": prompt})
    assert (reply.status, reply.json["error"]) == (400, "prompt is required")
    assert (reply.json["code"], reply.json["param"]) == ("missing_prompt", "prompt")


async def test_an_empty_body_needs_no_content_type(door):
    response = await door.app.test_client().post("/api/smart")
    assert (response.status_code, (await response.get_json())["error"]) == (400, "prompt is required")


async def test_an_unknown_provider_is_named_with_those_that_are_known(door):
    reply = await door.post("/api/generate", {"prompt": "hi", "provider": "foo"})
    assert reply.status == 400
    assert reply.json["error"].startswith("Unknown provider: foo")
    assert reply.json["code"] == "unknown_provider"


async def test_options_reach_the_wish():
    options = b'{"model":"m","timeout":500,"retries":2,"temperature":0,"maxTokens":7,"useCache":false,"unknown":1}'
    asked = wish(b'{"prompt":"p","system":"s","options":' + options + b"}")
    assert asked.prompt.messages == (user("p"),)
    assert asked.prompt.system == "s"
    assert asked.prompt.sampling == Sampling(temperature=0.0, max_tokens=7)
    assert (asked.model, asked.timeout_ms, asked.tries, asked.use_cache) == ("m", 500, 3, False)


async def test_a_model_beside_the_prompt_is_ignored_by_smart_as_it_always_was():
    assert wish(b'{"prompt":"p","model":"m"}').model == ""
    assert wish(b'{"prompt":"p","model":"m"}', "/api/generate").model == "m"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ('{"timeout":"5"}', "options.timeout"),
        ('{"timeout":0}', "options.timeout"),
        ('{"timeout":1.5}', "options.timeout"),
        ('{"timeout":99999999999999999999999}', "options.timeout"),
        ('{"retries":-1}', "options.retries"),
        ('{"retries":5}', "options.retries"),
        ('{"retries":1000}', "options.retries"),
        ('{"temperature":3}', "options.temperature"),
        ('{"temperature":"hot"}', "options.temperature"),
        ('{"temperature":1e999}', "options.temperature"),
        ('{"maxTokens":0}', "options.maxTokens"),
        ('{"maxTokens":true}', "options.maxTokens"),
        ('{"useCache":1}', "options.useCache"),
        ('{"useOss":true}', "options.useOss"),
        ('{"model":5}', "options.model"),
        ("[]", "options"),
        ('"fast"', "options"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options, param):
    with pytest.raises(ClientFailure) as caught:
        wish(b'{"prompt":"p","options":' + options.encode() + b"}")
    assert (caught.value.status, caught.value.param) == (400, param)


def test_use_oss_asks_the_codex_that_is_configured_for_it_and_no_other_provider():
    settings = settings_of(Path("/nowhere"))
    local = ProviderSettings(kind="codex", oss=True, default_model="qwen3:14b", weight=0)
    providers = {**settings.providers, "codex": ProviderSettings(kind="codex", default_model="gpt"), "codex-oss": local}
    with_it = msgspec.structs.replace(settings, providers=providers)
    asking = {"prompt": "p", "options": {"useOss": True}}
    for endpoint, more in (
        ("/api/smart", {}),
        ("/api/generate", {}),
        ("/codex", {}),
        ("/api/generate", {"provider": "codex"}),
    ):
        asked = wish_of(json.dumps({**asking, **more}).encode(), endpoint, Principal(), with_it)
        assert (asked.provider, asked.model) == ("codex-oss", "")
    named = {"prompt": "p", "options": {"useOss": True, "model": "llama3"}}
    assert wish_of(json.dumps(named).encode(), "/codex", Principal(), with_it).model == "llama3"
    off = {**providers, "codex-oss": msgspec.structs.replace(local, enabled=False)}
    for endpoint, these in (("/claude", providers), ("/codex", settings.providers), ("/codex", off)):
        with pytest.raises(ClientFailure) as caught:
            wish_of(
                json.dumps(asking).encode(), endpoint, Principal(), msgspec.structs.replace(settings, providers=these)
            )
        assert (caught.value.status, caught.value.param) == (400, "options.useOss")


def test_more_retries_than_are_made_are_refused_and_the_limit_is_named():
    assert wish(b'{"prompt":"p","options":{"retries":4}}').tries == 5
    with pytest.raises(ClientFailure, match=r"options\.retries: Expected `int` <= 4"):
        wish(b'{"prompt":"p","options":{"retries":5}}')


async def test_a_wish_that_could_not_be_carried_out_is_named_in_body_and_last_frame(door):
    body = {"prompt": "hi", "options": {"temperature": 0.5}}
    for path in ("/api/smart", "/claude"):
        whole = await door.post(path, body)
        assert whole.json["ignored"] == ["temperature"]
        *frames, last, _ = (await door.post(path, {**body, "stream": True})).frames
        assert last["ignored"] == ["temperature"]
        assert not any("ignored" in frame for frame in frames)
    assert "ignored" not in (await door.post("/api/smart", {"prompt": "hi"})).json


def test_an_option_that_is_null_counts_as_not_given():
    asked = wish(b'{"prompt":"p","stream":null,"options":{"model":null,"timeout":null,"useOss":false}}')
    assert (asked.model, asked.timeout_ms, asked.stream) == ("", None, False)


async def test_no_provider_at_all_is_503_with_a_reason_for_each(door):
    failing = {"prompt": "hi", "options": {"model": "fail=logged_out"}}
    first = await door.post("/claude", failing)
    assert (first.status, first.json["code"]) == (503, "provider_logged_out")
    assert first.headers["x-should-retry"] == "false"
    assert first.headers["x-request-id"] == first.json["request_id"]
    second = await door.post("/claude", {"prompt": "hi"})
    assert (second.status, second.json["code"]) == (503, "provider_logged_out"), "the one reason that all have"
    assert [each["provider"] for each in second.json["excluded"]] == ["claude"]


async def test_a_spent_quota_is_429_with_the_time_to_wait(door):
    reply = await door.post("/claude", {"prompt": "hi", "options": {"model": "fail=quota_exhausted,resets=3600"}})
    assert (reply.status, reply.json["code"]) == (429, "insufficient_quota")
    assert 3590 <= int(reply.headers["retry-after"]) <= 3600
    assert reply.json["retry_after"] == int(reply.headers["retry-after"])
    assert reply.headers["x-should-retry"] == "false"
