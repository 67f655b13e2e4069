"""Text completions as OpenAI's older clients read them."""

import msgspec
from hypothesis import HealthCheck, given, settings

from llmux.actors.messages import Principal
from llmux.failures import ClientFailure
from llmux.http.openai.completion_body import CompletionBody, completion_wish_of
from tests.http.test_bad_input import NOWHERE, VALUES


async def test_a_text_gets_a_text_with_real_usage(door):
    reply = await door.post("/v1/completions", {"model": "auto", "prompt": "hi"})
    body = reply.json
    assert (reply.status, reply.headers["x-llmux-provider"]) == (200, "claude")
    assert (body["object"], body["model"], body["system_fingerprint"]) == (
        "text_completion",
        "say=hello+from+claude",
        None,
    )
    assert body["id"] == "cmpl-" + reply.headers["x-request-id"].replace("-", "")
    assert body["choices"] == [{"text": "hello from claude", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"]["total_tokens"] == 4
    assert (body["_meta"]["provider"], body["_meta"]["cached"]) == ("claude", False)


async def test_a_stream_of_text_ends_with_its_reason_and_its_usage(door):
    asked = {"model": "reason=hm,say=one+two", "prompt": ["hi"], "stream": True}
    *frames, last, usage, done = (
        await door.post("/v1/completions", {**asked, "stream_options": {"include_usage": True}})
    ).frames
    assert done == "[DONE]"
    assert "".join(each["choices"][0]["text"] for each in frames) == "one two"
    assert all(each["choices"][0]["finish_reason"] is None and each["usage"] is None for each in frames)
    assert last["choices"] == [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert (last["usage"], last["_meta"]["ignored"]) == (None, [])
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 3)
    every = (*frames, last, usage)
    assert len({(each["id"], each["created"], each["model"], each["object"]) for each in every}) == 1
    plain = (await door.post("/v1/completions", asked)).frames
    assert not any("usage" in each for each in plain[:-1])


async def test_openais_words_reach_the_provider_here_too(door):
    reply = await door.post("/v1/completions", {"model": "echo", "prompt": "one two three", "max_tokens": 2})
    choice = reply.json["choices"][0]
    assert (choice["text"].strip(), choice["finish_reason"]) == ("one two", "length")
    reply = await door.post("/v1/completions", {"model": "echo", "prompt": "one two three", "stop": "two"})
    assert reply.json["choices"][0]["text"].strip() == "one"
    assert (await door.post("/v1/completions", {"prompt": "hi"})).json["_meta"]["provider"] == "claude"


async def test_what_cannot_be_done_is_refused_or_named(door):
    for field, value in (
        ("n", 2),
        ("echo", True),
        ("suffix", "end"),
        ("prompt", [1, 2, 3]),
        ("prompt", [[1, 2], [3]]),
        ("prompt", ["a", "b"]),
    ):
        reply = await door.post("/v1/completions", {"model": "auto", "prompt": "hi", field: value})
        error = reply.json["error"]
        assert (reply.status, error["code"], error["param"]) == (400, "unsupported_parameter", field)
    asked = {"model": "auto", "prompt": "hi", "logprobs": 0, "best_of": 3, "presence_penalty": 1, "user": "u"}
    reply = await door.post("/v1/completions", {**asked, "echo": False, "suffix": None, "n": 1})
    assert reply.json["_meta"]["ignored"] == ["presence_penalty", "logprobs", "best_of"]
    assert reply.headers["x-llmux-ignored"] == "presence_penalty, logprobs, best_of"


async def test_a_prompt_that_says_nothing_is_refused_by_name(door):
    for prompt in (None, "", " \n", [], [""]):
        error = (await door.post("/v1/completions", {"model": "auto", "prompt": prompt})).json["error"]
        assert (error["code"], error["param"]) == ("missing_prompt", "prompt")
    for field, value in (("prompt", 5), ("prompt", {"a": 1}), ("max_tokens", 0), ("temperature", 3), ("best_of", 0)):
        reply = await door.post("/v1/completions", {"model": "auto", "prompt": "hi", field: value})
        assert (reply.status, reply.json["error"]["param"]) == (400, field)


@given(VALUES, VALUES, VALUES)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_is_a_wish_of_one_text_or_a_client_failure(prompt, stop, other):
    for field in ("suffix", "best_of", "stream_options", "logprobs"):
        body = msgspec.json.encode({"prompt": prompt, "stop": stop, field: other})
        try:
            wish = completion_wish_of(body, "/v1/completions", Principal(), NOWHERE).wish
        except ClientFailure:
            continue
        (message,) = wish.prompt.messages
        assert message.role == "user"
        assert message.text.strip()
        assert field in CompletionBody.__struct_fields__
