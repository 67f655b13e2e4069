"""What OpenAI's clients are told when something goes wrong, and what they make of it."""

HI = [{"role": "user", "content": "hi"}]


async def test_an_error_is_an_object_with_type_param_and_code(door):
    reply = await door.post("/v1/chat/completions", {"model": "no-such-model", "messages": HI})
    assert reply.status == 404
    error = reply.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_found")
    assert "claude-plain" in error["message"]


async def test_the_types_of_errors_tell_whose_fault_it_is(door, virtual_time):
    expected = {
        "fail=rate_limited": (429, "rate_limit_exceeded", "rate_limit_exceeded"),
        "fail=quota_exhausted": (429, "insufficient_quota", "insufficient_quota"),
        "fail=context_too_long": (400, "invalid_request_error", "context_length_exceeded"),
        "fail=refused": (400, "invalid_request_error", "content_policy_violation"),
        "fail=crashed": (502, "server_error", "provider_crashed"),
        "fail=timed_out": (504, "server_error", "provider_timeout"),
    }
    for model, (status, type_, code) in expected.items():
        reply = await door.post("/v1/chat/completions", {"model": f"gemini/{model}", "messages": HI})
        assert reply.status == status, reply
        assert (reply.json["error"]["type"], reply.json["error"]["code"]) == (type_, code)


async def test_a_spent_quota_says_when_it_resets_and_that_retrying_is_no_use(door):
    """OpenAI's client would try twice more after a 429; it obeys x-should-retry, and no Retry-After beyond two minutes."""
    body = {"model": "gemini/fail=quota_exhausted,resets=3600", "messages": HI}
    reply = await door.post("/v1/chat/completions", body)
    assert (reply.status, reply.json["error"]["type"]) == (429, "insufficient_quota")
    assert 3_590_000 <= int(reply.headers["retry-after-ms"]) <= 3_600_000
    assert 3590 <= int(reply.headers["retry-after"]) <= 3600
    assert reply.headers["x-should-retry"] == "false"


async def test_a_short_rest_leaves_retrying_to_the_client(door, virtual_time):
    reply = await door.post("/v1/chat/completions", {"model": "codex/fail=rate_limited,retry=7", "messages": HI})
    assert (reply.status, reply.headers["retry-after"], reply.headers["retry-after-ms"]) == (429, "7", "7000")
    assert "x-should-retry" not in reply.headers


async def test_a_moment_in_which_nobody_can_answer_leaves_retrying_to_the_client(door, virtual_time):
    """Trying again is of no use only where none of the reasons passes by itself."""
    told = await door.post("/v1/messages", {"model": "fail=overloaded", "max_tokens": 9, "messages": HI})
    assert told.json["error"]["type"] == "overloaded_error"
    for reason in ("timed_out", "crashed", "unavailable"):
        reply = await door.post("/v1/chat/completions", {"model": f"fail={reason}", "messages": HI})
        assert (reply.status >= 500, len(reply.json["error"]["excluded"])) == (True, 4)
        assert "x-should-retry" not in reply.headers, reason


async def test_an_error_inside_a_stream_is_a_typed_frame_and_then_the_end(door):
    """OpenAI's client reads the message of an error frame only where `error` is an object."""
    asked = {"model": "claude/fail=crashed,after=2,say=one+two+three", "stream": True}
    for path, more in (("/v1/chat/completions", {"messages": HI}), ("/v1/completions", {"prompt": "hi"})):
        reply = await door.post(path, {**asked, **more})
        *_, told, done = reply.frames
        assert (reply.status, done) == (200, "[DONE]")
        assert (told["error"]["type"], told["error"]["code"]) == ("server_error", "provider_crashed")
        assert told["error"]["message"]
