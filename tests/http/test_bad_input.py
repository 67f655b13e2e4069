"""Anonymous rubbish: a true status, typed JSON in the caller's dialect, never HTML, never a traceback, never an event."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmux.actors.messages import Principal, Wish
from llmux.failures import ClientFailure
from llmux.http import native
from llmux.http.openai import chat_body
from llmux.http.openai.messages import Call, ChatMessage, ContentPart, Function, ImageUrl
from tests.http.served import Reply, gateway, settings_of

DEEP = b"[" * 100_000
RUBBISH: dict[str, tuple[bytes, int]] = {
    "malformed": (b'{"prompt": "hi"', 400),
    "trailing": (b'{"prompt": "hi"} x', 400),
    "no json": (b"prompt=hi", 400),
    "null": (b"null", 400),
    "list": (b"[]", 400),
    "string": (b'"hi"', 400),
    "number": (b"5", 400),
    "empty object": (b"{}", 400),
    "empty": (b"", 400),
    "blank": (b"  \n", 400),
    "bad utf-8": (b'{"prompt": "\xff\xfe", "messages": "\xff"}', 400),
    "lone surrogate": (b'{"prompt": "\\ud800", "messages": "\\ud800"}', 400),
    "byte order mark": (b'\xef\xbb\xbf{"prompt": "hi"}', 400),
    "NaN": (b'{"prompt": NaN, "messages": NaN}', 400),
    "infinity": (b'{"prompt": Infinity}', 400),
    "deep": (b'{"x": ' + DEEP + b"]" * 100_000 + b"}", 422),
    "deep prompt": (b'{"prompt": ' + DEEP + b', "messages": ' + DEEP, 422),
    "huge number": (b'{"prompt": 1e999, "messages": 1e999}', 400),
    "huge integer": (b'{"prompt": ' + b"9" * 5000 + b', "messages": ' + b"9" * 5000 + b"}", 400),
    "single quotes": (b"{'prompt': 'hi'}", 400),
    "nul": (b"\x00", 400),
    "model of another type": (b'{"prompt": "hi", "messages": [], "model": {"$gt": ""}}', 400),
    "stream of another type": (b'{"prompt": "hi", "messages": [], "stream": "yes"}', 400),
}
PATHS = ("/api/smart", "/api/generate", "/claude", "/v1/chat/completions", "/v1/responses")


def sound(reply: Reply, openai: bool) -> bool:
    """Whether an error is typed JSON in the right dialect and tells nothing of our inside."""
    text = reply.body.decode()
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert reply.headers["x-request-id"]
    assert "Traceback" not in text
    assert "<" not in text.replace("Bearer <key>", "")
    assert ".py" not in text
    error = json.loads(text)["error"]
    if openai:
        assert set(error) >= {"message", "type", "param", "code"}
        return all(isinstance(error[name], str) and error[name] for name in ("message", "type", "code"))
    return isinstance(error, str) and bool(error) and isinstance(json.loads(text)["code"], str)


@pytest.mark.parametrize("name", RUBBISH)
async def test_rubbish_gets_a_typed_error_and_leaves_no_trace_in_the_log(door, name):
    body, status = RUBBISH[name]
    for path in PATHS:
        reply = await door.post(path, body)
        assert (reply.status, path) == (status, path), reply
        assert sound(reply, path.startswith("/v1"))
        assert reply.headers["x-should-retry"] == "false"
    assert await door.events() == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"prompt": "hi", "provider": "foo"}),
        ("/api/generate", {"prompt": "hi", "provider": "../../etc"}),
        ("/api/generate", {"prompt": "hi", "model": "no-such"}),
        ("/api/smart", {"prompt": "hi", "options": {"model": "no-such"}}),
        ("/v1/chat/completions", {"model": "no-such", "messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/chat/completions", {"model": "\x1b[31m" * 50, "messages": [{"role": "user", "content": "hi"}]}),
    ],
)
async def test_an_unknown_provider_or_model_leaves_no_trace_either(door, path, body):
    for stream in (False, True):
        reply = await door.post(path, {**body, "stream": stream})
        assert reply.status in (400, 404)
        assert sound(reply, path.startswith("/v1"))
        assert "\x1b" not in reply.body.decode()
    assert await door.events() == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW"])
async def test_another_method_is_405_and_says_which_one(door, method):
    for path in PATHS:
        reply = await door.get(path, method=method)
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
        assert method == "HEAD" or sound(reply, path.startswith("/v1"))


@pytest.mark.parametrize(
    "path",
    ["/nope", "/v1/nope", "/v1/", "/api/smart/", "/api/../api/smart", "/%00", "/static/x", "/é"],
)
async def test_another_path_is_404(door, path):
    reply = await door.get(path)
    assert reply.status == 404
    assert sound(reply, path.startswith("/v1/"))


async def test_a_field_given_twice_counts_as_it_was_given_last(door):
    reply = await door.post("/ollama", b'{"prompt": "hi", "prompt": "ho", "options": {"model": "echo"}}')
    assert reply.json["response"] == "ho"


async def test_a_body_over_the_limit_is_413_in_each_dialect(tmp_path):
    async with gateway(settings_of(tmp_path, limits={"body_bytes_max": 1000})) as here:
        for path in PATHS:
            reply = await here.post(path, {"prompt": "x" * 1000})
            assert reply.status == 413
            assert sound(reply, path.startswith("/v1"))
        assert (await here.post("/api/smart", {"prompt": "x" * 900})).status == 200
        assert here.rejected("/api/smart", "request_too_large") == 1


async def test_what_nobody_foresaw_is_500_with_an_id_and_nothing_else(door, monkeypatch, capsys):
    def broken(wish: Wish):
        raise ZeroDivisionError(wish.prompt)

    monkeypatch.setattr(door.system, "request", broken)
    for path, openai in (("/api/smart", False), ("/v1/chat/completions", True)):
        body = {"prompt": "hush", "model": "auto", "messages": [{"role": "user", "content": "hush"}]}
        reply = await door.post(path, body)
        assert reply.status == 500
        assert sound(reply, openai)
        assert "ZeroDivision" not in reply.body.decode()
        told = capsys.readouterr()
        line = told.out + told.err
        assert reply.headers["x-request-id"] in line
        assert "ZeroDivisionError" in line
        assert "hush" not in line


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
NAMES = {
    name
    for struct in (
        native.Body,
        native.Options,
        chat_body.ChatBody,
        ChatMessage,
        ContentPart,
        ImageUrl,
        Call,
        Function,
    )
    for name in struct.__struct_fields__
}
FIELDS = st.sampled_from(sorted({*NAMES, "json_schema", "schema", "include_usage"}))
WORDS = st.sampled_from(
    [
        "user",
        "assistant",
        "system",
        "developer",
        "tool",
        "text",
        "image_url",
        "json_schema",
        "json_object",
        "auto",
        "hi",
        "data:image/png;base64,AAAA",
        "http://x/y.png",
        "low",
        "claude",
    ]
)
VALUES = st.recursive(
    LEAVES | WORDS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=5)
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": WORDS, "content": VALUES}, optional={"tool_call_id": VALUES}), max_size=4
)
BODIES = VALUES | st.fixed_dictionaries({"messages": MESSAGES}, optional={"stop": VALUES, "n": VALUES, "model": WORDS})
NOWHERE = settings_of(Path("/nowhere"))


@given(BODIES)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_is_a_wish_or_a_client_failure(value):
    """In both dialects, on every path: no other exception, and what becomes a wish ends with a message of the user."""
    body = json.dumps(value).encode()
    translations = [lambda: chat_body.chat_wish_of(body, "/v1/chat/completions", Principal(), NOWHERE).wish]
    for path in ("/api/smart", "/api/generate", "/codex"):
        translations.append(lambda path=path: native.wish_of(body, path, Principal(), NOWHERE))
    for translate in translations:
        try:
            last = translate().prompt.messages[-1]
        except ClientFailure:
            continue
        assert last.role == "user"
        assert last.parts


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_wish_or_a_client_failure(body):
    for translate in (
        lambda: chat_body.chat_wish_of(body, "/v1/chat/completions", Principal(), NOWHERE),
        lambda: native.wish_of(body, "/api/smart", Principal(), NOWHERE),
    ):
        with pytest.raises(ClientFailure):
            translate()
