"""Ollama's dialect over scripted providers: shapes, streams, errors, models. The translation has tests of its own."""

import json

import msgspec
import pytest

from llmux.actors.messages import Principal, Wish
from llmux.http.ollama.server import VERSION
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Listed
from tests.http.served import gateway, settings_of

HI = [{"role": "user", "content": "hi there"}]
PYTHON = {"user-agent": "ollama-python/0.6.3 (x86_64 linux) Python/3.12.0", "accept": "application/json"}
COUNTED = {
    "done_reason",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
}


def lines(reply) -> list[dict]:
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.body.endswith(b"\n")
    return [json.loads(line) for line in reply.body.splitlines()]


def chat(model: str = "claude/echo", **more) -> dict:
    return {"model": model, "messages": HI, **more}


async def test_a_whole_chat_has_every_field_that_ollama_counts(door):
    reply = await door.post("/api/chat", chat("claude/reason=let+me+see,say=well+done", stream=False))
    body = reply.json
    assert set(body) >= COUNTED
    assert body["message"] == {"role": "assistant", "content": "well done", "thinking": "let me see"}
    assert (body["model"], body["done"], body["done_reason"]) == ("reason=let+me+see,say=well+done", True, "stop")
    assert (body["prompt_eval_count"], body["eval_count"]) == (2, 5)
    assert (body["provider"], body["request_id"]) == ("claude", reply.headers["x-request-id"])
    assert reply.headers["x-llmux-provider"] == "claude"
    assert "ignored" not in body


async def test_a_chat_streams_lines_unless_it_is_told_not_to(door):
    reply = await door.post("/api/chat", chat("claude/reason=hm,say=one+two"))
    thought, *pieces, last = lines(reply)
    assert thought["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert [each["message"]["content"] for each in pieces] == ["one ", "two"]
    assert [each["done"] for each in (thought, *pieces)] == [False] * 3
    assert set(pieces[0]) == {"model", "created_at", "message", "done"}
    assert (last["done"], last["message"]["content"], last["eval_count"]) == (True, "", 3)
    assert set(last) >= COUNTED
    assert await door.events() == ["RequestAccepted", "AttemptStarted", "AttemptSucceeded", "RequestCompleted"]


async def test_what_was_not_carried_out_is_named_in_the_last_object_and_the_header(door):
    options = {"top_k": 40, "num_ctx": 4096, "temperature": 0.5}
    whole = await door.post("/api/chat", chat(stream=False, options=options))
    assert whole.json["ignored"] == ["options.num_ctx", "options.top_k", "temperature"]
    assert whole.headers["x-llmux-ignored"] == "options.num_ctx, options.top_k, temperature"
    assert lines(await door.post("/api/chat", chat(options=options)))[-1]["ignored"] == whole.json["ignored"]
    strict = await door.post("/api/chat", chat(options=options), {"x-llmux-strict": "true"})
    assert (strict.status, strict.json["param"]) == (400, "options.num_ctx")


async def test_silence_is_filled_with_empty_pieces_that_change_nothing(door, virtual_time):
    for path, body, headers in (
        ("/api/chat", chat("claude/delay=40000,say=hi"), {}),
        ("/api/generate", {"model": "claude/delay=40000,say=hi", "prompt": "x"}, PYTHON),
    ):
        first, second, *rest = lines(await door.post(path, body, headers))
        assert first == second
        assert first["done"] is False
        assert first.get("response", "") == first.get("message", {}).get("content", "") == ""
        assert rest[-1]["done"] is True


async def test_a_failure_has_its_status_before_the_first_piece_and_is_the_last_line_after_it(door):
    reply = await door.post("/api/chat", chat("claude/fail=refused"))
    assert (reply.status, reply.json["code"]) == (400, "content_policy_violation")
    assert isinstance(reply.json["error"], str)
    *pieces, error = lines(await door.post("/api/chat", chat("claude/say=a+b+c,fail=garbled,after=2")))
    assert [each["message"]["content"] for each in pieces] == ["a ", "b "]
    assert isinstance(error["error"], str)
    assert "done" not in error
    unknown = await door.post("/api/chat", chat("nope"))
    assert (unknown.status, unknown.json["code"]) == (404, "model_not_found")


async def test_latest_at_the_end_of_a_name_means_nothing(door):
    for model in ("claude-plain:latest", "claude/echo:latest", "auto:latest", "claude-plain"):
        assert (await door.post("/api/chat", chat(model, stream=False))).status == 200, model
    shown = await door.post("/api/show", {"model": "gemini-plain:latest"})
    assert shown.json["model_info"]["general.basename"] == "gemini-plain"


async def test_who_sends_no_prompt_learns_whether_the_model_is_known_and_nothing_is_recorded(door):
    for body, reason in (({}, "load"), ({"keep_alive": "5m"}, "load"), ({"keep_alive": 0}, "unload")):
        for path, headers in (("/api/chat", {}), ("/api/generate", PYTHON)):
            loaded = await door.post(path, {"model": "claude-plain", **body}, headers)
            assert (loaded.json["done"], loaded.json["done_reason"]) == (True, reason)
    assert (await door.post("/api/chat", {"model": "nope"})).status == 404
    nameless = await door.post("/api/chat", {"messages": HI})
    assert (nameless.status, nameless.json["param"]) == (400, "model")
    assert await door.events() == []


# --- /api/generate -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        PYTHON,
        {"user-agent": "ollama-js/0.6.4 (x64 linux Node.js/v22)"},
        {"user-agent": "ollama/0.13.4 (amd64 linux) Go/go1.24"},
        {"accept": "application/x-ndjson"},
    ],
    ids=["python", "js", "go", "accept"],
)
async def test_a_client_of_ollama_generates_as_with_ollama(door, headers):
    asked = {"model": "claude/echo", "prompt": "one two", "system": "s"}
    *pieces, last = lines(await door.post("/api/generate", {**asked, "stream": True}, headers))
    assert [each["response"] for each in pieces] == ["one ", "two"]
    assert (last["done"], last["response"], last["context"], last["prompt_eval_count"]) == (True, "", [], 3)
    whole = (await door.post("/api/generate", {**asked, "stream": False}, headers)).json
    assert set(whole) >= COUNTED
    assert (whole["response"], whole["done"], whole["context"]) == ("one two", True, [])
    assert lines(await door.post("/api/generate", asked, headers))[-1]["done"], "a stream, where nothing is said of it"


async def test_below_a_path_of_its_own_everything_is_ollamas(door):
    asked = {"model": "claude/echo", "prompt": "one two", "stream": True}
    assert [each["response"] for each in lines(await door.post("/ollama/api/generate", asked))] == ["one ", "two", ""]
    assert (await door.post("/ollama/api/chat", chat(stream=False))).json["message"]["content"] == "hi there"
    assert (await door.get("/ollama/api/tags")).json == (await door.get("/api/tags")).json
    assert (await door.get("/ollama/api/version")).json == {"version": VERSION}
    twice = {rule.rule for rule in door.app.url_map.iter_rules() if rule.rule.startswith("/ollama/api/")}
    served = {rule.rule for rule in door.app.url_map.iter_rules() if "/ollama" + rule.rule in twice}
    assert {"/api/chat", "/api/generate", "/api/embed", "/api/show", "/api/ps", "/api/tags", "/api/pull"} <= served
    assert len(served) == len(twice)


async def test_everybody_else_generates_as_ever(door):
    asked = {"model": "claude/echo", "prompt": "one two"}
    for headers in ({}, {"user-agent": "curl/8"}, {"user-agent": "my-ollama-python/1"}, {"accept": "application/json"}):
        assert (await door.post("/api/generate", asked, headers)).json["finish_reason"] == "stop"
        streamed = await door.post("/api/generate", {**asked, "stream": True}, headers)
        assert streamed.frames[0] == {"content": "one ", "done": False}
        assert streamed.frames[-1] == "[DONE]"


# --- embeddings ----------------------------------------------------------------------------------------------------


async def test_vectors_of_several_texts_of_one_and_in_the_old_way(door):
    several = await door.post("/api/embed", {"model": "ollama-plain", "input": ["a b", "c"]})
    assert [len(each) for each in several.json["embeddings"]] == [16, 16]
    assert (several.json["model"], several.json["prompt_eval_count"]) == ("ollama-plain", 3)
    assert several.headers["x-llmux-provider"] == "ollama"
    one = await door.post("/api/embed", {"model": "ollama-plain:latest", "input": "c", "dimensions": 3})
    assert [len(each) for each in one.json["embeddings"]] == [3]
    old = await door.post("/api/embeddings", {"model": "ollama-plain", "prompt": "a b"})
    assert old.json == {"embedding": several.json["embeddings"][0]}
    again = await door.post("/api/embed", {"model": "ollama-plain", "input": ["a b", "c"]})
    assert again.headers["x-llmux-cache"] == "hit"
    assert again.json["embeddings"] == several.json["embeddings"]


async def test_no_text_has_no_vector_and_too_many_are_refused(tmp_path):
    async with gateway(settings_of(tmp_path, limits={"embedding_inputs_max": 2})) as here:
        for body in ({}, {"input": ""}, {"input": []}):
            assert (await here.post("/api/embed", {"model": "auto", **body})).json["embeddings"] == []
        assert (await here.post("/api/embeddings", {"model": "auto"})).json == {"embedding": []}
        many = await here.post("/api/embed", {"model": "auto", "input": ["a", "b", "c"]})
        assert (many.status, many.json["param"]) == (422, "input")
        for wrong in ({"input": 5}, {"input": [5]}, {"input": "a", "dimensions": 0}):
            assert (await here.post("/api/embed", {"model": "auto", **wrong})).status == 400
        assert await here.events() == []


async def test_a_provider_that_makes_no_vectors_is_a_400_with_the_reason(tmp_path):
    settings = settings_of(tmp_path)
    claude = msgspec.structs.replace(settings.providers["claude"], kind="claude", command="/nothing", default_model="c")
    async with gateway(msgspec.structs.replace(settings, providers={**settings.providers, "claude": claude})) as here:
        reply = await here.post("/api/embed", {"model": "claude/c", "input": "a"})
        assert (reply.status, reply.json["code"]) == (400, "unsupported_parameter")
        assert [each["reason"] for each in reply.json["excluded"]] == ["cannot_embed"]
        assert (await here.post("/api/embed", {"model": "auto", "input": "a"})).headers["x-llmux-provider"] != "claude"
        shown = await here.post("/api/show", {"model": "claude/c"})
        assert shown.json["capabilities"] == ["completion", "vision", "thinking"]


# --- models and the server -----------------------------------------------------------------------------------------


async def test_every_model_is_listed_and_shown_as_ollama_would(door):
    for tag in (await door.get("/api/tags")).json["models"]:
        assert tag["model"] == tag["name"]
        assert (tag["size"], len(tag["digest"]), tag["details"]["family"]) == (0, 64, "scripted")
        assert set(tag["details"]) == {
            "parent_model",
            "format",
            "family",
            "families",
            "parameter_size",
            "quantization_level",
        }
        shown = (await door.post("/api/show", {"model": tag["name"]})).json
        assert shown["details"] == tag["details"]
        assert shown["modified_at"] == tag["modified_at"]
        assert shown["capabilities"] == ["completion", "embedding"]
        info = shown["model_info"]
        assert info["general.architecture"] == "scripted"
        assert info["scripted.context_length"] > 0
        numbers = ("general.parameter_count", "scripted.embedding_length")
        assert [info[name] for name in numbers] == [0, 0], "unknown, and there: ollama show does not work without them"
    assert (await door.post("/api/show", {"name": "codex-plain"})).json["provider"] == "codex"
    assert (await door.post("/api/show", {"model": "nope"})).status == 404
    assert (await door.post("/api/show", {})).status == 400


async def test_what_a_real_ollama_says_of_its_models_is_passed_on(door):
    desk = door.system.providers["ollama"]._desks["default"]
    said = Listed(
        name="ollama-plain:latest",
        modified_at="2026-11-22T17:17:43.638062013Z",
        size_bytes=528_835,
        digest="70c2784cbf0e47426c54ae05986feb959891bdcc018977fa2bc1b1e4eb108789",
        format="gguf",
        family="llama",
        families=("llama",),
        parameter_size="130K",
        quantization_level="Q4_0",
        capabilities=("embedding", "tools"),
    )
    desk.readiness = msgspec.structs.replace(desk.readiness, listed=(said,))
    tags = {each["name"]: each for each in (await door.get("/api/tags")).json["models"]}
    tag = tags["ollama-plain"]
    assert (tag["size"], tag["digest"], tag["modified_at"]) == (said.size_bytes, said.digest, said.modified_at)
    assert (tag["details"]["quantization_level"], tag["details"]["families"]) == ("Q4_0", ["llama"])
    assert (await door.post("/api/show", {"model": "ollama-plain"})).json["capabilities"] == ["embedding"]


async def test_ps_lists_the_models_that_are_answering(door):
    assert (await door.get("/api/ps")).json == {"models": []}
    hanging = Wish(prompt=Prompt((user("hi"),)), principal=Principal(), endpoint="/api/chat", model="gemini/hang")
    with door.system.request(hanging):
        await door.until("AttemptStarted")
        (running,) = (await door.get("/api/ps")).json["models"]
    assert (running["name"], running["model"], running["provider"]) == ("hang", "hang", "gemini")
    assert {"size", "size_vram", "digest", "details", "expires_at"} <= set(running)


async def test_the_probes_of_clients_find_a_server(door):
    for method, body in (("GET", b"Ollama is running"), ("HEAD", b"")):
        reply = await door.get("/", method=method)
        assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert method == "HEAD" or reply.body == body
    assert (await door.get("/api/version")).json == {"version": VERSION}


async def test_models_are_not_managed_here_and_nothing_is_recorded(door):
    for name in ("pull", "push", "create", "copy", "blobs/sha256:00"):
        reply = await door.post(f"/api/{name}", {"model": "claude-plain"})
        assert (reply.status, reply.json["code"]) == (403, "models_not_managed"), name
        assert isinstance(reply.json["error"], str)
    assert (await door.get("/api/delete", method="DELETE")).status == 403
    assert await door.events() == []
