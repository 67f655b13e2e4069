"""No text of a prompt acts on the real Claude Code: it reaches the vendor as it is, and no file's content goes with it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from llmux.prompts import Message, Prompt, Sampling, Text, ToolCall, ToolResult, assistant, user
from llmux.providers.claude import ClaudeAdapter
from tests.real.claude_running import adapter_of, ask, blocks, served, texts
from tests.real.hostile_prompts import NUMBER, SEED, arrived, hostile
from tests.upstreams.running import Upstream, upstream

SECRET = "the-canary-sings"


@pytest.fixture(scope="module")
def api() -> Iterator[Upstream]:
    with upstream("anthropic") as standing_in:
        yield standing_in


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file in the home of the CLI, beside its working directory."""
    file = tmp_path / "home" / "canary.txt"
    file.parent.mkdir()
    file.write_text(SECRET, "utf-8")
    return file


def guarded(text: str) -> str:
    """The documented guard: what the CLI would take for a command begins with a space."""
    return " " + arrived(text) if text.startswith("/") else arrived(text)


async def test_hostile_prompts_reach_the_upstream_unchanged_and_bring_no_file(
    api: Upstream, tmp_path: Path, canary: Path
) -> None:
    """As the last text, and as a past question, a past answer and the system's text. The model says the last text again."""
    print(f"seed {SEED}, {NUMBER} prompts")
    prompts = [text if text.strip() else f"{text}." for text in hostile(canary)]
    adapter = adapter_of(api, tmp_path, concurrency=2)
    async with served(adapter):
        gate = trio.Semaphore(2)
        async with trio.open_nursery() as nursery:
            for number, text in enumerate(prompts):
                await gate.acquire()
                nursery.start_soon(_one, api, adapter, prompts, number, text, gate)
                if number % 50 == 49:
                    await _quiet(gate)
                    _nothing_leaks(api)
        _nothing_leaks(api)


async def _quiet(gate: trio.Semaphore) -> None:
    for _ in range(2):
        await gate.acquire()
    for _ in range(2):
        gate.release()


def _nothing_leaks(api: Upstream) -> None:
    assert SECRET not in json.dumps(api.log())
    assert "root:x:" not in json.dumps(api.log())
    api.reset()


async def _one(
    api: Upstream, adapter: ClaudeAdapter, prompts: list[str], number: int, text: str, gate: trio.Semaphore
) -> None:
    past, system = prompts[number - 1], prompts[number - 2]
    marked = Text(f"[{number}]")
    prompt = Prompt((Message("user", (marked, Text(past))), assistant(past), user(text)), system=system)
    try:
        await ask(adapter, prompt)
        found = [json.loads(seen["body"]) for seen in api.log() if f"[{number}]" in seen["body"]]
        assert len(found) == 1, f"prompt {number} made {len(found)} calls: {text!r}"
        body = found[0]
        assert body["system"][-1]["text"] == arrived(system), f"system of prompt {number}: {system!r}"
        assert [texts(message) for message in body["messages"]] == [
            [marked.text, guarded(past)],
            [arrived(past)],
            [guarded(text)],
        ], f"prompt {number}: {text!r} after {past!r}"
        assert body["tools"] == []
    finally:
        gate.release()


async def test_at_path_in_any_place_of_a_prompt_reads_no_file(api: Upstream, tmp_path: Path, canary: Path) -> None:
    """Also in the results of tools, in a schema, in what stops the answer, and in each place with its own form."""
    api.reset()
    home = canary.parent
    forms = (f"@{canary}", f'@"{canary}"', f"@{home}/", "@~/canary.txt", "@../../home/canary.txt", "@/etc/passwd")
    text = " and ".join(forms)
    call = Message("assistant", (Text(text), ToolCall("c1", "read", json.dumps({"path": text}))))
    prompt = Prompt(
        (user(text), call, Message("user", (ToolResult("c1", (Text(text),)),)), assistant(text), user(text)),
        system=text,
        sampling=Sampling(stop=(f"@{canary}",)),
        json_schema={
            "type": "object",
            "description": text,
            "properties": {"a": {"type": "string", "description": text}},
        },
    )
    api.control(mode="json", object={"a": "b"})
    async with served(adapter_of(api, tmp_path), warm=False) as adapter:
        await ask(adapter, prompt)
    sent = json.dumps(api.log())
    assert SECRET not in sent
    assert "root:x:" not in sent
    (body,) = (json.loads(seen["body"]) for seen in api.log() if seen["path"].startswith("/v1/messages"))
    assert body["system"][-1]["text"] == text
    assert texts(body["messages"][0]) == [text]
    assert blocks(body["messages"][1])[0]["text"] == text
    assert text in json.dumps(blocks(body["messages"][2]), ensure_ascii=False).replace('\\"', '"')
    assert texts(body["messages"][4]) == [text]
