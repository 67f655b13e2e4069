"""The traps that were found in Codex, each with the test that springs it on the real program.

| trap | test |
|---|---|
| a retry of its own repeats the text | test_trap_retries_duplicate_text |
| default retries hold a failure back for many seconds | test_trap_default_retries |
| a long history is summarised by a second, paid call | test_trap_auto_compaction |
| threads are never unloaded | test_trap_threads_stay_in_memory, and test_codex_life |
| a lone surrogate: the line is dropped, no reply ever | test_codex: test_trap_half_a_surrogate_pair_… |
| one invalid byte ends the process | test_trap_an_invalid_byte_ends_the_process |
| "/compact", "@/etc/passwd", "$skill" | test_codex_hostile |
| a tool that nobody offered costs a second call | test_trap_a_tool_nobody_offered |
| names that its own catalog does not know | test_trap_names_missing_from_its_catalog |
| offline it waits for ever | test_codex: test_an_upstream_that_is_not_there_is_unavailable |
| OPENAI_BASE_URL and keys of the environment | test_trap_the_environment_redirects_nothing |
| a refresh that cannot be saved burns the login | test_codex: test_a_login_that_cannot_be_written_is_only_lent |
| "Logged in" also with a dead refresh token | test_codex: test_a_dead_login_is_logged_out_until_somebody_logs_in_again |
| the role system is dropped in silence | test_trap_system_text_is_not_dropped |
| an interrupted thread keeps "<turn_aborted>" | test_trap_an_interrupted_turn_leaves_no_trace_in_the_next |
| more than 1,048,576 characters are refused in typed input | test_codex_hostile: test_text_that_looks_like_a_command_is_text |
| the limit of tokens is a failed turn | test_codex: test_an_answer_at_the_limit_of_tokens_finishes_with_length |
| an answer without a word is a success | test_codex: the row "nothing" |
| quota windows may be null | test_trap_quota_windows_that_are_null |
| an image that cannot be read becomes a sentence, a large one is scaled | test_codex_exactness |
| npm's wrapper costs a process | test_codex: test_npms_wrapper_is_not_needed_to_start_the_program |
| it looks at the account beside the model, at the vendor's, wherever the model is | test_trap_side_calls_go_where_the_model_is |
| a prompt cache key for each thread | test_codex_history |
"""

import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.failures import Kind
from llmux.prompts import Prompt, assistant, user
from llmux.providers.codex.roots import COUNT
from tests.providers.hearing import Heard
from tests.real.codex_running import MODEL, Make, app_server, calls, conversation, failing, model_calls, say, serving
from tests.upstreams.running import Upstream


async def test_trap_retries_duplicate_text(codex_api: Upstream, make_codex: Make) -> None:
    codex_api.control(deltas=["one ", "two ", "three"], end="cut")
    heard = Heard()
    async with serving(make_codex()) as adapter:
        assert (await failing(adapter, "hi", heard)).kind is Kind.GARBLED
    assert heard.text == "one two "
    assert len(model_calls(codex_api)) == 1


@pytest.mark.parametrize(
    "modes",
    [{"status": 500}, {"status": 429}, {"status": 503}, {"end": "cut", "cut_after": 0}, {"error": {"code": "x"}}],
    ids=["500", "429", "503", "cut", "in the stream"],
)
async def test_trap_default_retries(codex_api: Upstream, make_codex: Make, modes: dict[str, Any]) -> None:
    """By itself Codex asks up to five times more, for up to 25 s; trying again is the gateway's business."""
    codex_api.control(**modes)
    async with serving(make_codex()) as adapter:
        with trio.fail_after(4):
            await failing(adapter)
    assert len(model_calls(codex_api)) == 1


async def test_trap_auto_compaction(codex_api: Upstream, make_codex: Make) -> None:
    """3 MB of history, about 750,000 tokens: more than any window in Codex's own catalog."""
    said = tuple(turn(f"{number} " + "word " * 10_000) for number in range(30) for turn in (user, assistant))
    prompt = Prompt((*said, user("and now?")), system="s")
    async with serving(make_codex()) as adapter:
        await say(adapter, prompt)
    (body,) = calls(codex_api)
    assert [content[0]["text"] for _, content in conversation(body)] == ["s", *(one.text for one in prompt.messages)]


async def test_trap_threads_stay_in_memory(codex_api: Upstream, make_codex: Make) -> None:
    async with serving(make_codex()) as adapter:
        for number in range(12):
            await say(adapter, f"conversation {number}")
        server = adapter._keeper._current
        with trio.fail_after(10):  # beside the threads forked in advance
            while len((await server.connection.request("thread/loaded/list", {}).result())["data"]) > COUNT:
                await trio.sleep(0.02)
        assert len(server._spares) <= COUNT


async def test_trap_an_invalid_byte_ends_the_process(codex_api: Upstream, make_codex: Make) -> None:
    """It does when it is told one, which no prompt can do; the next server takes over."""
    async with serving(make_codex()) as adapter:
        assert (await say(adapter, "\udcff\ud800 \x80\xff")).text
        first = app_server()
        server = adapter._keeper._current
        await server.connection._process.send(b'{"id":1,"method":"x\xff"}')
        with trio.fail_after(10):
            await server.connection.ended.wait()
        assert (await say(adapter, "hi")).text == "Hello from the stand-in."
        assert app_server() != first


async def test_trap_a_tool_nobody_offered(codex_api: Upstream, make_codex: Make, tmp_path: Path) -> None:
    """Nothing is executed, and Codex's own second question, with the word that there is no such tool, is forestalled.

    Codex asks it at once: now and then it is on its way before the interrupt arrives. Then it is cut off.
    """
    codex_api.control(tool="exec_command", pause_ms=50, deltas=["second "] * 100)
    heard = Heard()
    async with serving(make_codex()) as adapter:
        failure = await failing(adapter, "hi", heard)
        assert (failure.kind, failure.evidence) == (Kind.GARBLED, "codex.second_call")
        with trio.fail_after(5):
            while not all(call["closed_early"] for call in model_calls(codex_api)[1:]):
                await trio.sleep(0.02)
    assert heard.chunks == []
    assert len(model_calls(codex_api)) <= 2
    assert list((tmp_path / "private/empty").iterdir()) == []


async def test_trap_names_missing_from_its_catalog(codex_api: Upstream, make_codex: Make) -> None:
    """A model of the configuration goes up by its name; another one, which Codex would summarise and cut, is not taken."""
    adapter = make_codex()
    async with serving(adapter):
        await say(adapter, "hi")
    assert calls(codex_api)[0]["model"] == MODEL
    assert not adapter.accepts("gpt-of-next-year")


async def test_trap_the_environment_redirects_nothing(codex_api: Upstream, make_codex: Make, tmp_path: Path) -> None:
    adapter = make_codex()
    adapter._place.environ.update(OPENAI_BASE_URL="http://127.0.0.1:9/v1", OPENAI_API_KEY="sk-x", CODEX_API_KEY="sk-y")
    async with serving(adapter):
        assert (await say(adapter, "hi")).text == "Hello from the stand-in."
    (seen,) = model_calls(codex_api)
    assert "sk-" not in seen["headers"]["authorization"]


async def test_trap_system_text_is_not_dropped(codex_api: Upstream, make_codex: Make) -> None:
    async with serving(make_codex()) as adapter:
        await say(adapter, Prompt((user("q"),), system="a rule"))
    assert conversation(calls(codex_api)[0])[0] == ("developer", [{"type": "input_text", "text": "a rule"}])


async def test_trap_an_interrupted_turn_leaves_no_trace_in_the_next(codex_api: Upstream, make_codex: Make) -> None:
    codex_api.control(deltas=["a ", "b ", "c "], end="stall")
    heard = Heard()
    async with serving(make_codex()) as adapter:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, adapter, "hi", heard)
            while not heard.text:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        codex_api.reset()
        await say(adapter, "hi")
    (body,) = calls(codex_api)
    assert conversation(body) == [("user", [{"type": "input_text", "text": "hi"}])]


async def test_trap_quota_windows_that_are_null(codex_api: Upstream, make_codex: Make) -> None:
    codex_api.control(used=None)
    async with serving(make_codex()) as adapter:
        heard = await say(adapter, "hi")
    assert heard.answer.text
    assert heard.windows == []


async def test_trap_side_calls_go_where_the_model_is(codex_api: Upstream, make_codex: Make) -> None:
    """Codex looks at account and settings at the vendor's, also when its model is elsewhere. A proxy would see it."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        async with serving(make_codex(env={"HTTPS_PROXY": url, "NO_PROXY": "127.0.0.1"})) as adapter:
            await say(adapter, "a secret of mine")
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
    beside = [seen for seen in codex_api.log() if seen not in model_calls(codex_api)]
    assert {seen["method"] for seen in beside} <= {"GET"}
    assert not any("secret" in str(seen) for seen in beside)
