"""What a key's limits look like from outside: statuses, codes, sentences, and how much is left."""

from pathlib import Path

import pytest
import trio

from llmux.actors.key_registry import IssueKey
from llmux.actors.measures import Measure
from llmux.clock import SeededClock
from llmux.events import KeyLimited, KeyLimits, NewEvent
from llmux.http.ratelimits import headers_of, lasting
from tests.http.served import gateway, settings_of

CHAT = "/v1/chat/completions"
ADMIN = "an-admin-key-of-the-tests"
MINUTE_MS = 60_000


@pytest.fixture
async def house(tmp_path: Path):
    """A gateway that requires keys, at the beginning of a minute."""
    settings = settings_of(tmp_path, api_key_required=True, api_key="sk-a-legacy-key-of-the-tests", admin_key=ADMIN)
    async with gateway(settings, clock=SeededClock(1)) as here:
        await trio.sleep((MINUTE_MS - here.system.clock.now() % MINUTE_MS) / 1000)
        yield here


async def key(here, expires_at: int | None = None, **limits) -> dict[str, str]:
    """The headers of a key with these limits."""
    issued = await here.system.key_registry.ask(IssueKey("ann", "garden"))
    fact = KeyLimited(key_id=issued.id, limits=KeyLimits(**limits), expires_at=expires_at)
    await here.system.journal.append(NewEvent(f"key-{issued.id}", fact, here.system.clock.new_id(), "admin"))
    return {"authorization": f"Bearer {issued.secret_key}"}


def chat(model: str = "claude-plain", **fields) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}


def limits_in(reply) -> dict[str, str]:
    return {name.removeprefix("x-ratelimit-"): value for name, value in reply.headers.items() if "ratelimit" in name}


async def test_every_answer_says_how_much_is_left(house, virtual_time):
    mine = await key(house, requests_per_minute=3, tokens_per_minute=10_000, requests_per_day=100)
    reply = await house.post(CHAT, chat(), mine)
    assert reply.status == 200
    used = reply.json["usage"]["total_tokens"]
    assert limits_in(reply) == {
        "limit-requests": "3",
        "remaining-requests": "2",
        "reset-requests": "2m0s",
        "limit-tokens": "10000",
        "remaining-tokens": str(10_000 - used),
        "reset-tokens": "2m0s",
    }
    stream = await house.post(CHAT, chat("say=one+two", stream=True), mine)
    assert stream.status == 200
    assert limits_in(stream)["remaining-requests"] == "1"
    assert int(limits_in(stream)["remaining-tokens"]) < 9_000, "what a stream may still take is held"
    wrong = await house.post(CHAT, {"model": 5}, mine)
    assert (wrong.status, limits_in(wrong)["remaining-requests"]) == (400, "1")
    shown = await house.get("/v1/models", mine)
    assert limits_in(shown)["remaining-requests"] == "1", "looking costs nothing"


async def test_a_minute_that_is_used_up_is_429_until_there_is_room(house, virtual_time):
    mine = await key(house, requests_per_minute=1)
    assert (await house.post("/api/smart", {"prompt": "hi"}, mine)).status == 200
    reply = await house.post(CHAT, chat(), mine)
    assert reply.status == 429
    error = reply.json["error"]
    assert (error["type"], error["code"]) == ("rate_limit_exceeded", "rate_limit_exceeded")
    assert error["message"].startswith("This key may make 1 request per minute, and has. It may make the next at 20")
    assert (reply.headers["retry-after"], reply.headers["retry-after-ms"]) == ("120", "120000")
    assert "x-should-retry" not in reply.headers
    assert limits_in(reply)["remaining-requests"] == "0"
    assert house.rejected(CHAT, "rate_limit_exceeded") == 1
    assert (await house.events()).count("RequestAccepted") == 1, "a refusal makes no event"
    await trio.sleep(int(reply.headers["retry-after"]))
    assert (await house.post(CHAT, chat(), mine)).status == 200


async def test_a_day_that_is_used_up_is_not_worth_another_try(house, virtual_time):
    mine = await key(house, tokens_per_day=600)
    assert (await house.post(CHAT, chat(f"say=hello,tokens={600}"), mine)).status == 200
    reply = await house.post(CHAT, chat(), mine)
    assert reply.status == 429
    assert (reply.json["error"]["type"], reply.json["error"]["code"]) == ("insufficient_quota", "insufficient_quota")
    assert "600 tokens per day; 0 are left" in reply.json["error"]["message"]
    assert reply.headers["x-should-retry"] == "false"
    day_ms = 24 * 60 * MINUTE_MS
    assert int(reply.headers["retry-after-ms"]) == day_ms - house.system.clock.now() % day_ms
    native = await house.post("/api/smart", {"prompt": "hi"}, mine)
    assert (native.status, native.json["code"]) == (429, "insufficient_quota")


async def test_what_can_never_fit_is_said_so(house, virtual_time):
    mine = await key(house, tokens_per_minute=1_000)
    reply = await house.post(CHAT, chat(max_tokens=2_000), mine)
    assert (reply.status, reply.headers["x-should-retry"]) == (429, "false")
    assert "retry-after" not in reply.headers
    assert "more than the 1000 per minute" in reply.json["error"]["message"]


async def test_a_model_that_a_key_may_not_have_is_403_and_the_sentence_says_what_it_may(house, virtual_time):
    mine = await key(house, models=["gemini-plain", "codex/*"])
    for path, body in (
        (CHAT, chat("claude-plain")),
        (CHAT, chat("auto")),
        ("/claude", {"prompt": "hi"}),
        ("/api/smart", {"prompt": "hi", "options": {"model": "claude/claude-plain"}}),
    ):
        if body.get("model") == "auto":
            assert (await house.post(path, body, mine)).headers["x-llmux-provider"] == "codex"
            continue
        reply = await house.post(path, body, mine)
        assert reply.status == 403, path
        error = reply.json["error"]
        code, message = (error["code"], error["message"]) if path == CHAT else (reply.json["code"], error)
        assert code == "model_not_allowed"
        assert message.endswith("It may ask for: gemini-plain, codex/*.")
    assert (await house.post(CHAT, chat("gemini-plain"), mine)).status == 200
    assert house.rejected(CHAT, "model_not_allowed") == 1


async def test_who_sends_a_key_is_shown_what_it_may_ask_for(house, virtual_time):
    mine = await key(house, models=["codex-plain"])
    listed = [each["id"] for each in (await house.get("/v1/models", mine)).json["data"]]
    assert listed == ["codex-plain"]
    assert [each["name"] for each in (await house.get("/api/tags", mine)).json["models"]] == ["codex-plain"]
    assert (await house.get("/v1/models/codex-plain", mine)).status == 200
    missing = await house.get("/v1/models/claude-plain", mine)
    assert missing.status == 404
    assert missing.json["error"]["message"].endswith("Known models: codex-plain.")
    for nobody in ({}, {"authorization": "Bearer wrong"}, {"x-admin-key": ADMIN}):
        listed = [each["id"] for each in (await house.get("/v1/models", nobody)).json["data"]]
        assert {"auto", "claude-plain", "codex-plain"} <= set(listed)


async def test_an_expired_key_opens_nothing_and_says_why(house, virtual_time):
    end = house.system.clock.now() + 5_000
    mine = await key(house, expires_at=end, requests_per_minute=9)
    assert (await house.post(CHAT, chat(), mine)).status == 200
    await trio.sleep(5)
    reply = await house.post(CHAT, chat(), mine)
    assert reply.status == 401
    assert reply.json["error"]["code"] == "expired_api_key"
    assert reply.json["error"]["message"].startswith("This API key expired at 20")
    assert reply.headers["www-authenticate"] == "Bearer"
    assert not limits_in(reply)
    forged = {"authorization": mine["authorization"][:-1] + "x"}
    assert (await house.post(CHAT, chat(), forged)).json["error"]["code"] == "invalid_api_key"


async def test_a_key_of_the_configuration_has_no_limits(house, virtual_time):
    legacy = {"x-api-key": "sk-a-legacy-key-of-the-tests"}
    for _ in range(3):
        reply = await house.post(CHAT, chat(), legacy)
        assert (reply.status, limits_in(reply)) == (200, {})


def test_the_tightest_of_several_limits_is_told():
    def measure(span, limit, present, ends):
        return Measure("requests", span, limit, present, 0, 0, ends)

    minute, day = measure("minute", 10, 2, 60_000), measure("day", 100, 95, 3_600_000)
    told = headers_of((minute, day), CHAT, 0)
    assert told == {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "1h0m0s",
    }
    assert headers_of((minute,), CHAT, 0)["x-ratelimit-remaining-requests"] == "8"
    anthropic = headers_of((minute,), "/v1/messages", 0)
    assert anthropic["anthropic-ratelimit-requests-remaining"] == "8"
    assert anthropic["anthropic-ratelimit-requests-reset"] == "1970-01-01T00:02:00.000Z"
    assert headers_of((), CHAT, 0) == {}


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (12, "12ms"), (999, "999ms"), (1500, "1.5s"), (59_999, "59.999s"), (60_000, "1m0s"), (360_000, "6m0s"),
     (3_600_000, "1h0m0s"), (86_340_000, "23h59m0s"), (-5, "0s")],
)  # fmt: skip
def test_durations_are_written_as_clients_read_them(ms, text):
    assert lasting(ms) == text
