"""Successive turns of a conversation, as the upstream of the real Codex sees them."""

import json
from pathlib import Path
from typing import Any

from llmux.config import Limits
from llmux.prompts import Message, Prompt, assistant, user
from llmux.providers.codex.roots import COUNT
from tests.real.codex_running import Make, calls, model_calls, say, serving
from tests.upstreams.running import Upstream


def conversation_of(turns: int, *, system: str = "Be brief. €", first: str = "first «1»") -> list[Prompt]:
    """The prompts of a conversation of so many turns, each with all that was said before."""
    said: list[Message] = []
    prompts = []
    for number in range(turns):
        said.append(user(first if number == 0 else f"question {number}\n\t🌍 é"))
        prompts.append(Prompt(tuple(said), system=system))
        said.append(assistant(f'answer {number} \\ "quoted" \u2028'))
    return prompts


def cacheable(body: str) -> str:
    """The bytes of a request up to the end of its input: all that a prompt cache compares, and before what follows it."""
    start = body.index('"input":[') + len('"input":[')
    return body[:start] + json.dumps(json.loads(body)["input"], ensure_ascii=False, separators=(",", ":"))[1:-1]


def rest(body: dict[str, Any]) -> dict[str, Any]:
    """What stands beside the input and is the same for all turns."""
    return {name: value for name, value in body.items() if name not in ("input", "prompt_cache_key", "client_metadata")}


async def test_each_turn_begins_with_the_bytes_of_the_one_before(codex_api: Upstream, make_codex: Make) -> None:
    async with serving(make_codex()) as adapter:
        for prompt in conversation_of(5):
            await say(adapter, prompt)
    sent = [seen["body"] for seen in model_calls(codex_api)]
    prefixes = [cacheable(body) for body in sent]
    for earlier, later, body in zip(prefixes, prefixes[1:], sent[1:], strict=False):
        assert body.startswith(later), "the input goes up as it is written here, with nothing between its items"
        assert later.startswith(earlier)
    assert len({json.dumps(rest(json.loads(body))) for body in sent}) == 1
    assert rest(json.loads(sent[0]))["tools"] == []


async def test_a_conversation_has_one_cache_key_also_over_the_replacement_of_the_server(
    codex_api: Upstream, make_codex: Make
) -> None:
    """The key is also the header `session-id`, by which the vendor chooses a machine; the rest of the metadata is per turn."""
    async with serving(make_codex(limits=Limits(worker_turns_max=2))) as adapter:
        for prompt in conversation_of(6):
            await say(adapter, prompt)
        assert adapter.statistics().started > 1
    seen = model_calls(codex_api)
    assert len({json.loads(one["body"])["prompt_cache_key"] for one in seen}) == 1
    assert {one["headers"]["session-id"] for one in seen} == {json.loads(seen[0]["body"])["prompt_cache_key"]}
    assert len({one["headers"]["thread-id"] for one in seen}) == 6


async def test_many_conversations_share_a_few_cache_keys_and_nothing_else(
    codex_api: Upstream, make_codex: Make
) -> None:
    codex_api.control(echo=True)
    async with serving(make_codex()) as adapter:
        for number in range(12):
            assert (await say(adapter, f"conversation {number}")).text == f"conversation {number}"
    keys = [body["prompt_cache_key"] for body in calls(codex_api)]
    assert 1 < len(set(keys)) <= COUNT
    assert all(len(body["input"]) == 1 for body in calls(codex_api))


async def test_nothing_of_a_conversation_is_written_to_the_disk(
    codex_api: Upstream, make_codex: Make, tmp_path: Path
) -> None:
    async with serving(make_codex(limits=Limits(worker_turns_max=3))) as adapter:
        for prompt in conversation_of(4, system="an unmistakable rule", first="an unmistakable question"):
            await say(adapter, prompt)
        files = [path for path in (tmp_path / "private").rglob("*") if path.is_file()]
        assert files
        assert not any(b"unmistakable" in path.read_bytes() for path in files)
