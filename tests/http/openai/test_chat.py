"""Chat completions as their clients read them."""

from llmux.actors.messages import Principal, Wish
from llmux.failures import ClientFailure
from llmux.http.errors import problem_of
from llmux.http.exchange import Exchange
from llmux.http.openai.chat import ChatFrames
from llmux.http.openai.completions import TextFrames
from llmux.prompts import Chunk, Prompt, user

HI = [{"role": "user", "content": "hi"}]


async def test_a_completion_has_openais_fields_and_real_usage(door):
    reply = await door.post("/v1/chat/completions", {"model": "auto", "messages": HI})
    body = reply.json
    assert reply.status == 200
    assert body["id"].startswith("chatcmpl-")
    assert body["object"] == "chat.completion"
    assert isinstance(body["created"], int)
    assert body["model"] == "say=hello+from+claude"
    (choice,) = body["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["message"] == {"role": "assistant", "content": "hello from claude", "refusal": None}
    assert body["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 3,
        "total_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


async def test_what_happened_stands_in_meta_and_in_headers(door):
    body = {"model": "auto", "messages": HI, "temperature": 0.5, "logprobs": True, "presence_penalty": 1}
    reply = await door.post("/v1/chat/completions", body)
    meta = reply.json["_meta"]
    assert set(meta) == {"provider", "attempts", "duration_ms", "request_id", "cached", "ignored"}
    assert (meta["provider"], meta["attempts"], meta["cached"]) == ("claude", 1, False)
    assert set(meta["ignored"]) == {"presence_penalty", "logprobs", "temperature"}
    assert meta["request_id"] == reply.headers["x-request-id"]
    assert reply.headers["x-llmux-provider"] == "claude"
    assert reply.headers["x-llmux-attempts"] == "1"
    assert reply.headers["x-llmux-cache"] == "miss"
    assert set(reply.headers["x-llmux-ignored"].split(", ")) == {"presence_penalty", "logprobs", "temperature"}


async def test_no_cache_gets_a_fresh_answer(door):
    body = {"model": "auto", "messages": HI}
    await door.post("/v1/chat/completions", body)
    assert (await door.post("/v1/chat/completions", body)).json["_meta"]["cached"] is True
    fresh = await door.post("/v1/chat/completions", body, {"cache-control": "no-cache"})
    assert fresh.json["_meta"]["cached"] is False


async def test_a_stream_has_one_id_a_role_first_and_an_empty_delta_last(door):
    reply = await door.post("/v1/chat/completions", {"model": "auto", "messages": HI, "stream": True})
    *chunks, done = reply.frames
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "hello from claude"
    assert deltas[-1] == {}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert not any("usage" in chunk for chunk in chunks)
    assert chunks[-1]["_meta"]["provider"] == "claude"


async def test_a_stream_tells_in_its_last_choice_what_was_ignored(door):
    """Its head went out before the provider could say; a streamed answer from the cache tells it too."""
    body = {"model": "auto", "messages": HI, "stream": True, "temperature": 0.5, "logprobs": True}
    for cached in (False, True):
        reply = await door.post("/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
        *_, last, usage, _ = reply.frames
        assert last["choices"][0]["finish_reason"] == "stop"
        assert last["_meta"]["ignored"] == ["logprobs", "temperature"]
        assert (last["_meta"]["request_id"], last["_meta"]["cached"]) == (reply.headers["x-request-id"], cached)
        assert "_meta" not in usage
        assert reply.headers["x-llmux-ignored"] == "logprobs"


async def test_what_is_all_carried_out_leaves_an_empty_list(door):
    reply = await door.post("/v1/chat/completions", {"model": "auto", "messages": HI})
    assert reply.json["_meta"]["ignored"] == []
    assert "x-llmux-ignored" not in reply.headers


async def test_a_stream_ends_with_its_usage_where_it_was_asked_for(door):
    body = {"model": "auto", "messages": HI, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, _ = (await door.post("/v1/chat/completions", body)).frames
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 4
    assert usage["id"] == chunks[0]["id"]


async def test_reasoning_stands_in_a_field_of_its_own(door):
    body = {"model": "reason=let+me+see,say=42", "messages": HI}
    message = (await door.post("/v1/chat/completions", body)).json["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("42", "let me see")
    frames = (await door.post("/v1/chat/completions", {**body, "stream": True})).frames
    assert frames[1]["choices"][0]["delta"] == {"reasoning_content": "let me see"}


async def test_a_request_without_model_goes_to_the_default_provider(door):
    reply = await door.post("/v1/chat/completions", {"messages": HI})
    assert reply.json["_meta"]["provider"] == "claude"


async def test_openais_words_reach_the_provider(door):
    body = {"model": "echo", "messages": [{"role": "user", "content": "one two three four"}], "max_tokens": 2}
    reply = await door.post("/v1/chat/completions", body)
    choice = reply.json["choices"][0]
    assert (choice["message"]["content"].strip(), choice["finish_reason"]) == ("one two", "length")
    reply = await door.post("/v1/chat/completions", {**body, "max_tokens": 50, "stop": ["three"]})
    assert reply.json["choices"][0]["message"]["content"].strip() == "one two"


async def test_a_strict_request_is_refused_where_a_wish_would_be_left_out(door):
    body, strict = {"model": "auto", "messages": HI}, {"x-llmux-strict": "true"}
    assert (await door.post("/v1/chat/completions", body, strict)).status == 200
    refused = await door.post("/v1/chat/completions", {**body, "temperature": 0.5}, strict)
    assert refused.status == 400
    assert refused.json["error"]["code"] == "unsupported_parameter"
    assert "temperature" in refused.json["error"]["message"]
    nobody = await door.post("/v1/chat/completions", {**body, "logprobs": True}, strict)
    assert (nobody.status, nobody.json["error"]["param"]) == (400, "logprobs")
    assert (await door.post("/v1/chat/completions", {**body, "temperature": 0.5})).status == 200


async def test_strictness_is_true_or_false(door):
    reply = await door.post("/v1/chat/completions", {"model": "auto", "messages": HI}, {"x-llmux-strict": "maybe"})
    assert (reply.status, reply.json["error"]["param"]) == (400, "x-llmux-strict")


async def test_the_frames_of_a_stream_can_be_made_again_byte_for_byte(door):
    """A client that lost its connection reads on from frames that are made anew."""
    exchange = Exchange(door.system)
    prompt = Prompt(messages=(user("hi"),))
    wish = Wish(prompt, Principal(), "/v1/chat/completions", model="reason=hm,say=one+two", stream=True)
    with door.system.request(wish) as request:
        chunks: list[Chunk] = []
        while more := await request.receive():
            chunks += more
    for frames in (ChatFrames, TextFrames):
        first, second = (frames(exchange, request, 1_795_779_108, with_usage=True) for _ in range(2))
        made = first.opening() + b"".join(map(first.chunk, chunks))
        assert made == second.opening() + b"".join(map(second.chunk, chunks))
        assert made.endswith(b"data: [DONE]\n\n")
        problem = problem_of(ClientFailure("no"), 0)
        assert first.failure(problem) == second.failure(problem)
