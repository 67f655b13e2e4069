"""The real Codex against a stand-in of its API."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.clock import SystemClock
from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Image, Message, Prompt, ReasoningDelta, Sampling, Text, TextDelta, Usage, assistant, user
from llmux.providers.codex import login
from tests.providers.codex_login import token, write_login
from tests.providers.hearing import Heard, descendants
from tests.real.clis import codex
from tests.real.codex_running import (
    MODEL,
    Make,
    app_server,
    calls,
    conversation,
    failing,
    model_calls,
    picture,
    say,
    serving,
)
from tests.upstreams.running import Upstream

# --- what goes up, and what comes back -------------------------------------------------------------------------------


async def test_a_codex_of_an_ollama_answers_without_a_login_and_asks_nobody_else(
    codex_api: Upstream, make_codex: Make
) -> None:
    codex_api.control(deltas=["from ", "here"], used=None)
    adapter = make_codex(logged_in=False, oss=True, base_url=f"{codex_api.url}/v1", default_model=MODEL, env={})
    readiness = await adapter.probe()
    assert (readiness.ready, readiness.sentence, readiness.windows) == (True, "", ())
    async with serving(adapter):
        heard = await say(adapter, Prompt((user("hi"),), system="be brief"))
    assert heard.text == "from here"
    assert heard.answer.finish.usage.input_tokens > 0
    assert {seen["path"] for seen in codex_api.log()} == {"/v1/responses"}
    (seen,) = model_calls(codex_api)
    assert "authorization" not in {name.lower() for name in seen["headers"]}
    assert conversation(calls(codex_api)[0])[-1][0] == "user"


async def test_an_answer_is_the_upstreams_own_deltas_and_usage(codex_api: Upstream, make_codex: Make) -> None:
    codex_api.control(deltas=["Hé", "llo ", "🌍", "\n"], reasoning=["**Th", "ink**"])
    async with serving(make_codex()) as adapter:
        heard = await say(adapter, Prompt((user("hi"),), sampling=Sampling(temperature=0.5, max_tokens=9)))
    assert heard.chunks[:-1] == [
        ReasoningDelta("**Th"),
        ReasoningDelta("ink**"),
        TextDelta("Hé"),
        TextDelta("llo "),
        TextDelta("🌍"),
        TextDelta("\n"),
    ]
    finish = heard.answer.finish
    assert finish.reason == "stop"
    assert finish.usage == Usage(input_tokens=40, output_tokens=11, cached_input_tokens=13, reasoning_tokens=2)
    assert (finish.model, finish.ignored) == (MODEL, ("temperature", "max_tokens"))
    assert [(w.window, w.status, w.used_percent) for w in heard.windows] == [
        ("primary", "allowed", 12),
        ("secondary", "allowed", 34),
    ]


async def test_deltas_come_while_the_upstream_still_speaks(codex_api: Upstream, make_codex: Make) -> None:
    """The upstream stalls for ever after two deltas; both have been heard by then."""
    codex_api.control(deltas=["one ", "two ", "three"], end="stall")
    heard = Heard()
    async with serving(make_codex()) as adapter, trio.open_nursery() as nursery:
        nursery.start_soon(say, adapter, "hi", heard)
        while heard.text != "one two ":
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_system_history_and_images_go_up_as_they_are_and_nothing_else_does(
    codex_api: Upstream, make_codex: Make
) -> None:
    image = Image("image/png", picture(3_000))  # wide enough to be scaled down, if Codex were let
    last = Message("user", (Text("look: "), image, Text("\nwell?")))
    prompt = Prompt((user("one"), assistant("two"), last), system="Be brief.")
    async with serving(make_codex()) as adapter:
        await say(adapter, prompt)
        await say(adapter, prompt)
    first, second = calls(codex_api)
    assert conversation(first) == [
        ("developer", [{"type": "input_text", "text": "Be brief."}]),
        ("user", [{"type": "input_text", "text": "one"}]),
        ("assistant", [{"type": "output_text", "text": "two"}]),
        (
            "user",
            [
                {"type": "input_text", "text": "look: "},
                {"type": "input_image", "image_url": f"data:image/png;base64,{image.data}", "detail": "high"},
                {"type": "input_text", "text": "\nwell?"},
            ],
        ),
    ]
    assert first["input"] == second["input"]  # ids included: a prompt cache can recognise it
    assert (first["tools"], first["store"], first.get("instructions"), first.get("text")) == ([], False, None, None)
    beside = [seen for seen in codex_api.log() if seen not in model_calls(codex_api)]
    assert {seen["path"] for seen in model_calls(codex_api)} == {"/backend-api/codex/responses"}
    assert {(seen["method"], seen["path"].rsplit("/wham/")[-1], seen["body"]) for seen in beside} <= {
        ("GET", "accounts/check", ""),
        ("GET", "settings/user", ""),
    }


async def test_schema_and_effort_reach_the_upstream(codex_api: Upstream, make_codex: Make) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    codex_api.control(text='{"a": "b"}')
    async with serving(make_codex()) as adapter:
        for effort in ("none", "minimal", "low", "medium", "high", "xhigh"):
            prompt = Prompt((user("q"),), sampling=Sampling(reasoning_effort=effort), json_schema=schema)  # type: ignore[arg-type]
            assert (await say(adapter, prompt)).text == '{"a": "b"}'
    sent = calls(codex_api)
    assert [body["reasoning"]["effort"] for body in sent] == ["none", "minimal", "low", "medium", "high", "xhigh"]
    assert all(body["reasoning"]["summary"] == "auto" for body in sent)
    assert all(body["text"]["format"]["schema"] == schema for body in sent)


async def test_trap_half_a_surrogate_pair_is_replaced_and_does_not_hang(codex_api: Upstream, make_codex: Make) -> None:
    async with serving(make_codex()) as adapter:
        assert (await say(adapter, "a\ud800b")).text
    assert conversation(calls(codex_api)[0]) == [("user", [{"type": "input_text", "text": "a\ufffdb"}])]


# --- failures --------------------------------------------------------------------------------------------------------

HOUR_MS = 3_600_000
ROWS: dict[str, tuple[dict[str, Any], Kind, str]] = {
    "plan limit": (
        {"status": 429, "body": {"error": {"type": "usage_limit_reached", "message": "x"}}, "failed_used": [100, 34]},
        Kind.QUOTA_EXHAUSTED,
        "codex.usageLimitExceeded",
    ),
    "not in the plan": (
        {"status": 429, "body": {"error": {"type": "usage_not_included", "message": "x"}}},
        Kind.INELIGIBLE,
        "codex.usage_not_included",
    ),
    "no credit": (
        {
            "status": 429,
            "body": {"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "x"}},
        },
        Kind.QUOTA_EXHAUSTED,
        "codex.usageLimitExceeded",
    ),
    "no credit, in the stream": (
        {"error": {"code": "insufficient_quota", "message": "x"}},
        Kind.QUOTA_EXHAUSTED,
        "codex.usageLimitExceeded",
    ),
    "429": ({"status": 429, "headers": {"retry-after": "1"}}, Kind.RATE_LIMITED, "codex.http.429"),
    "rate limit in the stream": (
        {"error": {"code": "rate_limit_exceeded", "message": "Please try again in 1.054s."}},
        Kind.RATE_LIMITED,
        "codex.rateLimitExceeded",
    ),
    "503": (
        {"status": 503, "body": {"error": {"code": "server_is_overloaded", "message": "x"}}},
        Kind.OVERLOADED,
        "codex.serverOverloaded",
    ),
    "overloaded in the stream": (
        {"error": {"code": "server_is_overloaded", "message": "x"}},
        Kind.OVERLOADED,
        "codex.serverOverloaded",
    ),
    "500": ({"status": 500}, Kind.UNAVAILABLE, "codex.internalServerError"),
    "server error in the stream": (
        {"error": {"code": "server_error", "message": "An error occurred."}},
        Kind.UNAVAILABLE,
        "codex.other.upstream",
    ),
    "404": (
        {"status": 404, "body": {"error": {"code": "model_not_found", "message": "x"}}},
        Kind.MODEL_NOT_FOUND,
        "codex.modelNotFound",
    ),
    "context": (
        {"error": {"code": "context_length_exceeded", "message": "x"}},
        Kind.CONTEXT_TOO_LONG,
        "codex.contextWindowExceeded",
    ),
    "400": (
        {"status": 400, "body": {"error": {"code": "invalid_value", "message": "x"}}},
        Kind.INVALID_REQUEST,
        "codex.other.body",
    ),
    "403": ({"status": 403}, Kind.LOGGED_OUT, "codex.http.403"),
    "413": ({"status": 413}, Kind.INVALID_REQUEST, "codex.http.413"),
    "cut": ({"end": "cut"}, Kind.GARBLED, "codex.other.cut"),
    "cut before a word": ({"end": "cut", "cut_after": 0}, Kind.GARBLED, "codex.other.cut"),
    "no end mark": ({"end": "none"}, Kind.GARBLED, "codex.other.unfinished"),
    "a page of HTML": ({"end": "html"}, Kind.GARBLED, "codex.other.unfinished"),
    "nothing": ({"deltas": [""]}, Kind.GARBLED, "codex.empty"),
    "filtered": ({"deltas": [""], "end": "incomplete", "reason": "content_filter"}, Kind.REFUSED, "codex.filtered"),
    "a tool nobody offered": ({"tool": "exec_command"}, Kind.GARBLED, "codex.second_call"),
}


async def test_every_failure_of_the_upstream_has_its_kind(codex_api: Upstream, make_codex: Make) -> None:
    """All rows on one app-server, which outlives them all."""
    seen, failures, heard = {}, {}, {}
    async with serving(make_codex()) as adapter:
        for row, (modes, _, _) in ROWS.items():
            codex_api.reset()
            codex_api.control(**modes)
            heard[row] = Heard()
            failures[row] = await failing(adapter, row, heard[row])
            seen[row] = (failures[row].kind, failures[row].evidence)
        codex_api.reset()
        assert (await say(adapter, "hi")).text == "Hello from the stand-in."
        assert adapter.statistics().started == 1
    assert seen == {row: (kind, evidence) for row, (_, kind, evidence) in ROWS.items()}
    limit = failures["plan limit"].resets_at
    assert limit is not None
    assert 0 < limit - SystemClock().now() <= 2 * HOUR_MS
    assert heard["plan limit"].windows[0].resets_at == limit
    assert all(failures[row].resets_at is None for row in ROWS if row != "plan limit")
    assert failures["rate limit in the stream"].retry_after_ms == 1054
    assert heard["cut"].text == "Hello from "  # once: nothing is asked again after a word was heard


async def test_an_answer_at_the_limit_of_tokens_finishes_with_length(codex_api: Upstream, make_codex: Make) -> None:
    codex_api.control(end="incomplete")
    async with serving(make_codex()) as adapter:
        heard = await say(adapter, "hi")
    assert heard.answer.text == "Hello from the stand-in."
    assert (heard.answer.finish.reason, heard.answer.finish.usage.output_tokens) == ("length", 11)


async def test_an_upstream_that_is_not_there_is_unavailable(make_codex: Make) -> None:
    async with serving(make_codex(base_url="http://127.0.0.1:1/backend-api/codex")) as adapter:
        failure = await failing(adapter)
    assert (failure.kind, failure.evidence) == (Kind.UNAVAILABLE, "codex.http.unreachable")


# --- login -----------------------------------------------------------------------------------------------------------


async def test_a_token_that_is_refused_is_renewed_by_codex_and_saved_where_it_came_from(
    codex_api: Upstream, make_codex: Make, tmp_path: Path
) -> None:
    new = token(mark="renewed")
    codex_api.control(accept=new, refresh=new)
    async with serving(make_codex()) as adapter:
        assert (await say(adapter, "hi")).text == "Hello from the stand-in."
    stored = json.loads((tmp_path / "login/auth.json").read_text())
    assert (stored["tokens"]["access_token"], stored["tokens"]["refresh_token"]) == (new, "refresh-2")
    assert not (tmp_path / "login/auth.json").is_symlink()


async def test_a_dead_login_is_logged_out_until_somebody_logs_in_again(
    codex_api: Upstream, make_codex: Make, tmp_path: Path
) -> None:
    new = token(mark="renewed")
    codex_api.control(accept=new, refresh="refresh_token_reused")
    async with serving(make_codex()) as adapter:
        failure = await failing(adapter)
        assert (failure.kind, failure.evidence) == (Kind.LOGGED_OUT, "codex.unauthorized")
        codex_api.control(accept=write_login(tmp_path / "login", mark="again"))
        assert (await say(adapter, "hi")).text == "Hello from the stand-in."


async def test_an_answer_is_asked_for_with_the_account_that_is_logged_in_now(
    codex_api: Upstream, make_codex: Make, tmp_path: Path
) -> None:
    async with serving(make_codex()) as adapter:
        await say(adapter, "hi")
        new = write_login(tmp_path / "login", account="account-2", mark="other")
        await say(adapter, "hi")
    seen = {name.lower(): value for name, value in dict(model_calls(codex_api)[-1]["headers"]).items()}
    assert (seen["authorization"], seen["chatgpt-account-id"]) == (f"Bearer {new}", "account-2")


async def test_a_login_that_stays_refused_after_a_refresh_is_logged_out(codex_api: Upstream, make_codex: Make) -> None:
    new = token(mark="renewed")
    codex_api.control(accept="another", refresh=new)
    async with serving(make_codex()) as adapter:
        failure = await failing(adapter)
    assert (failure.kind, failure.evidence) == (Kind.LOGGED_OUT, "codex.http.401")


async def test_without_a_login_nothing_is_asked_and_the_sentence_says_what_to_type(
    codex_api: Upstream, make_codex: Make, tmp_path: Path
) -> None:
    adapter = make_codex(logged_in=False)
    async with serving(adapter):
        failure = await failing(adapter)
        assert failure.kind is Kind.LOGGED_OUT
        assert "type: llmux login codex" in str(failure)
        readiness = await adapter.probe()
        assert (readiness.installed, readiness.logged_in, readiness.sentence) == (True, False, str(failure))
        write_login(tmp_path / "login")
        assert (await adapter.probe()).ready
        assert (await say(adapter, "hi")).text == "Hello from the stand-in."


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets logins look unwritable: the tests may run as root, whom no mode of a directory stops."""
    monkeypatch.setattr(login, "_writes_through", lambda path: False)


@pytest.mark.usefixtures("read_only")
async def test_a_login_that_cannot_be_written_is_only_lent(
    codex_api: Upstream, make_codex: Make, tmp_path: Path
) -> None:
    """Codex never sees the refresh token, so that it cannot spend it; a refused token is looked up again."""
    adapter = make_codex()
    before = (tmp_path / "login/auth.json").read_text()
    async with serving(adapter):
        assert (await say(adapter, "hi")).text == "Hello from the stand-in."
        assert (tmp_path / "login/auth.json").read_text() == before
        assert "is only lent" in (await adapter.probe()).sentence
        codex_api.control(accept=write_login(tmp_path / "login", mark="renewed by the host"))
        assert (await say(adapter, "hi")).text == "Hello from the stand-in."
        codex_api.control(accept="another")
        assert (await failing(adapter)).kind is Kind.LOGGED_OUT
        assert adapter.statistics().started == 1
    assert "/oauth/token" not in {seen["path"] for seen in codex_api.log()}
    assert not any("refresh-1" in path.read_text("utf-8", "replace") for path in private_files(tmp_path))


def private_files(directory: Path) -> list[Path]:
    return [path for path in (directory / "private").rglob("*") if path.is_file()]


# --- life of the process ---------------------------------------------------------------------------------------------


async def test_a_cancelled_answer_closes_its_upstream_and_leaves_the_server_to_others(
    codex_api: Upstream, make_codex: Make
) -> None:
    codex_api.control(deltas=["word "] * 500, pause_ms=20)
    cancelled, other = Heard(), Heard()
    async with serving(make_codex()) as adapter:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(say, adapter, "hi", cancelled)
                while not cancelled.text:
                    await trio.sleep(0.01)
                scope.cancel()
        with trio.fail_after(5):
            while not model_calls(codex_api)[0]["closed_early"]:
                await trio.sleep(0.02)
        codex_api.control(pause_ms=0)
        await say(adapter, "hi", other)
        assert other.text == "word " * 500
        assert adapter.statistics().started == 1


async def test_an_answer_cancelled_before_the_first_byte_closes_its_upstream(
    codex_api: Upstream, make_codex: Make
) -> None:
    codex_api.control(silent_ms=60_000)
    async with serving(make_codex()) as adapter:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, adapter, "hi")
            while not model_calls(codex_api):
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            while not model_calls(codex_api)[0]["closed_early"]:
                await trio.sleep(0.02)


async def test_a_server_that_is_killed_fails_its_turns_and_the_next_one_takes_over(
    codex_api: Upstream, make_codex: Make
) -> None:
    codex_api.control(deltas=["a ", "b ", "c "], end="stall")
    adapter = make_codex()
    heard = [Heard(), Heard()]
    failures: list[ProviderFailure] = []

    async def fails(one: Heard) -> None:
        failures.append(await failing(adapter, "hi", one))

    async with serving(adapter):
        async with trio.open_nursery() as nursery:
            for one in heard:
                nursery.start_soon(fails, one)
            while not all(one.text == "a b " for one in heard):
                await trio.sleep(0.01)
            os.kill(app_server(), signal.SIGKILL)
        assert [failure.kind for failure in failures] == [Kind.CRASHED] * 2
        codex_api.reset()
        assert (await say(adapter, "hi")).text == "Hello from the stand-in."
        statistics = adapter.statistics()
        assert (statistics.started, statistics.lost, statistics.busy + statistics.idle) == (2, 1, 1)


async def test_nothing_is_left_after_the_stop_and_no_prompt_on_the_disk(make_codex: Make, tmp_path: Path) -> None:
    adapter = make_codex()
    before = set(descendants())
    async with serving(adapter):
        await say(adapter, "an unmistakable sentence")
        assert set(descendants()) - before
    assert set(descendants()) - before == set()
    assert adapter.statistics() == type(adapter.statistics())(started=1)
    assert not any(b"unmistakable" in path.read_bytes() for path in private_files(tmp_path))


async def test_the_working_directory_stays_empty(make_codex: Make, tmp_path: Path) -> None:
    async with serving(make_codex()) as adapter:
        await say(adapter, "hi")
    assert list((tmp_path / "private/empty").iterdir()) == []


async def test_npms_wrapper_is_not_needed_to_start_the_program(codex_api: Upstream, make_codex: Make) -> None:
    wrapper = codex().parents[4] / "codex/bin/codex.js"  # beside the package that holds the native program
    assert wrapper.is_file()
    adapter = make_codex(command=str(wrapper))
    async with serving(adapter):
        assert (await say(adapter, "hi")).text == "Hello from the stand-in."
        assert [name for name in descendants().values() if name in ("node", "codex", "MainThread")] == ["codex"]
    assert (await adapter.probe()).version == "0.169.0"


async def test_a_ready_codex_says_so(make_codex: Make) -> None:
    readiness = await make_codex().probe()
    assert (readiness.ready, readiness.version, readiness.sentence) == (True, "0.169.0", "")
    assert readiness.login_stamp
