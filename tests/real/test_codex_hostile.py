"""No text of a prompt acts on the real Codex: it reaches the upstream as it is, and no file's content goes with it."""

import json
from pathlib import Path

import pytest
import trio

from llmux.prompts import Prompt, assistant, user
from llmux.providers.codex import CodexAdapter
from tests.providers.hearing import Heard
from tests.real.codex_running import Make, calls, conversation, say, serving
from tests.real.hostile_prompts import NUMBER, SEED, arrived, hostile
from tests.upstreams.running import Upstream

SECRET = "the-canary-sings"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file in the gateway's own home, and copies of it wherever Codex might look for what it could read."""
    places = [tmp_path / "home", tmp_path / "private", tmp_path / "home/.codex", tmp_path]
    for directory in places:
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("canary.txt", "AGENTS.md"):
            (directory / name).write_text(SECRET, "utf-8")
    return places[0] / "canary.txt"


async def test_hostile_prompts_reach_the_upstream_unchanged_and_bring_no_file(
    codex_api: Upstream, make_codex: Make, canary: Path
) -> None:
    """As the last text, and as a past question, a past answer and the system's text. The model says the last text again."""
    print(f"seed {SEED}, {NUMBER} prompts")
    prompts = list(hostile(canary))
    async with serving(make_codex()) as adapter:
        for start in range(0, len(prompts), 8):
            codex_api.reset()
            codex_api.control(echo=True)
            async with trio.open_nursery() as nursery:
                for number in range(start, min(start + 8, len(prompts))):
                    nursery.start_soon(one, adapter, prompts, number)
            sent = json.dumps(codex_api.log())
            assert SECRET not in sent
            assert "root:x:" not in sent
            bodies = {conversation(body)[-2][1][0]["text"]: body for body in calls(codex_api)}
            assert len(bodies) == len(calls(codex_api)), "one call for each, and no other"
            for number in range(start, min(start + 8, len(prompts))):
                past, system = prompts[number - 1], prompts[number - 2]
                body = bodies[f"[{number}]"]
                found = [(role, [part["text"] for part in content]) for role, content in conversation(body)]
                assert found == [
                    ("developer", [arrived(system)]),
                    ("user", [arrived(past)]),
                    ("assistant", [arrived(past)]),
                    ("assistant", [f"[{number}]"]),
                    ("user", [arrived(prompts[number])]),
                ]
                assert body["tools"] == []


async def one(adapter: CodexAdapter, prompts: list[str], number: int) -> None:
    past, text = prompts[number - 1], prompts[number]
    said = (user(past), assistant(past), assistant(f"[{number}]"), user(text))
    heard = Heard()
    try:
        await say(adapter, Prompt(said, system=prompts[number - 2]), heard)
    except Exception as error:
        raise AssertionError(f"prompt {number}: {text!r}") from error
    assert heard.text == arrived(text)


async def test_text_that_looks_like_a_command_is_text(codex_api: Upstream, make_codex: Make, canary: Path) -> None:
    """/compact, @file and $skill are of Codex's own terminal; "x" * 1,100,000 is more than it takes as typed input."""
    texts = ["/compact", f"@{canary}", "$skill", "!id", "\n", "", "\ufeffBOM", "<turn_aborted>", "x" * 1_100_000]
    async with serving(make_codex()) as adapter:
        for text in texts:
            await say(adapter, Prompt((user(text),)))
    assert [conversation(body)[0][1][0]["text"] for body in calls(codex_api)] == texts
