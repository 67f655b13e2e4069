"""Which provider answers, whether another one may, and what the headers of every answer say of it."""

from types import SimpleNamespace

import pytest

from llmux.events import RequestAccepted
from llmux.http.streams import tried_headers
from tests.http.served import gateway, settings_of

ALLOWED = {"x-llmux-fallback": "true"}
HI = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"


@pytest.fixture
async def aliased(tmp_path):
    """A gateway that knows two aliases."""
    async with gateway(settings_of(tmp_path, aliases={"gpt-4o": "gemini-plain", "mine": "codex/say=mine"})) as here:
        yield here


def native(model: str, **options) -> dict:
    return {"prompt": "hi", "options": {"model": model, "retries": 0, **options}}


def chat(model: str, **more) -> dict:
    return {"model": model, "messages": HI, **more}


def told(reply) -> tuple[str | None, ...]:
    return tuple(reply.headers.get(f"x-llmux-{name}") for name in ("provider", "model", "attempts", "cache"))


async def test_a_model_goes_where_its_name_says(aliased):
    for model, provider, answering in (
        ("auto", "claude", "say=hello+from+claude"),
        ("smart", "claude", "say=hello+from+claude"),
        ("ollama-plain", "ollama", "ollama-plain"),
        ("gemini/say=hi", "gemini", "say=hi"),
        ("codex/auto", "codex", "say=hello+from+codex"),
        ("gpt-4o", "gemini", "gemini-plain"),
        ("mine", "codex", "say=mine"),
    ):
        for more in ({}, {"stream": True}):
            assert told(await aliased.post(CHAT, chat(model, **more)))[:2] == (provider, answering), model
    reply = await aliased.post(CHAT, chat("nope"))
    assert reply.status == 404
    listed = {each["id"] for each in (await aliased.get("/v1/models")).json["data"]}
    named = reply.json["error"]["message"].partition("Known models: ")[2].removesuffix(".")
    assert set(named.split(", ")) == listed > {"auto", "gpt-4o", "mine", "gemini-plain"}
    assert told(reply) == (None, None, None, None)


@pytest.mark.parametrize("header", ["x-llmux-strict", "x-llmux-fallback", "x-llmux-resumable"])
async def test_a_switch_that_is_neither_true_nor_false_is_400_even_where_nobody_is_asked(door, header):
    """Ollama's clients load a model with a body that has no prompt."""
    for path in (CHAT, "/api/chat", "/ollama/api/generate", "/api/embed", "/api/embeddings"):
        reply = await door.post(path, {"model": "claude/say=hi"}, {header: "yes"})
        assert (reply.status, header in str(reply.json)) == (400, True), path


@pytest.mark.parametrize("more", [{}, {"stream": True}])
@pytest.mark.parametrize("path", ["/claude", CHAT])
async def test_a_pinned_provider_that_fails_is_left_only_with_permission(door, path, more):
    body = {**native("fail=garbled"), **more} if path == "/claude" else chat("claude/fail=garbled", **more)
    pinned = await door.post(path, body)
    assert pinned.status == 502
    assert told(pinned) == ("claude", "fail=garbled", "1", "miss"), "an error after an attempt says whose it was"
    allowed = await door.post(path, body, ALLOWED)
    assert allowed.status == 200
    provider, model, attempts, _ = told(allowed)
    assert (provider, attempts) == ("gemini", "2"), "without weights, the others follow in their configured order"
    assert model == "say=hello+from+gemini"


async def test_the_native_option_is_the_same_permission(door):
    assert (await door.post("/claude", native("fail=garbled", fallback=False))).status == 502
    assert told(await door.post("/claude", native("fail=garbled", fallback=True)))[0] == "gemini"


async def test_the_log_says_what_was_asked_for_and_what_was_allowed_besides(door):
    reply = await door.post("/claude", native("fail=garbled"), ALLOWED)
    recorded = await door.system.journal._store.read(after=0, limit=1000)
    (accepted,) = [event.fact for event in recorded if isinstance(event.fact, RequestAccepted)]
    assert (accepted.pinned, accepted.spares) == (False, 3)
    assert [each.provider for each in accepted.candidates] == ["claude", "gemini", "codex", "ollama"]
    story = await door.system.history.story(reply.headers["x-request-id"])
    assert "The last 3 were not asked for, but allowed as a fallback." in story.summary


async def test_anothers_answer_is_never_kept_for_who_insists(door):
    body = native("fail=garbled", useCache=True)
    assert told(await door.post("/claude", body, ALLOWED))[0] == "gemini"
    assert told(await door.post("/claude", body, ALLOWED)) == ("gemini", "say=hello+from+gemini", "0", "hit")
    assert (await door.post("/claude", body)).status == 502


async def test_a_permission_that_is_neither_yes_nor_no_is_400(door):
    reply = await door.post("/claude", {"prompt": "hi"}, {"x-llmux-fallback": "maybe"})
    assert (reply.status, reply.json["param"]) == (400, "x-llmux-fallback")


def test_whatever_a_model_is_called_it_makes_a_header():
    request = SimpleNamespace(source="flight", attempts=1, provider="ollama", model="é/a b\r\nx: y%41", again=False)
    assert tried_headers(request)["x-llmux-model"] == "%C3%A9/a%20b%0D%0Ax:%20y%2541"
