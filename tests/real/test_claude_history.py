"""What successive turns of one conversation look like at the vendor: the same bytes, and then more, so that its cache works."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from llmux.prompts import Image, Message, Prompt, Text, ToolCall, ToolResult, assistant, user
from tests.real.claude_running import adapter_of, ask, served
from tests.upstreams.running import Upstream, upstream

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # 1 x 1, PNG
TALK = (
    Message("user", (Text("What is this?"), Image("image/png", PIXEL))),
    assistant("A pixel.\n\n  It is {grey}."),
    user("/etc/passwd says what? 🦊 \u2028 é"),
    Message("assistant", (Text("Let me look."), ToolCall("toolu_A", "look", '{"at":"it","deep":[1,2.5,null]}'))),
    Message("user", (ToolResult("toolu_A", (Text("nothing"),)), Text("So?"))),
    assistant("Nothing."),
    user("And now?"),
    assistant("Still nothing. "),
    user("Thank you."),
)
SYSTEM = "You are terse.\n\n  Indented, with \u2028 and 🦊."


@pytest.fixture(scope="module")
def api() -> Iterator[Upstream]:
    with upstream("anthropic") as standing_in:
        yield standing_in


def unmarked(value: Any) -> Any:
    """Without the marks of what to cache: the CLI always puts one on the last block, and they are no part of the prompt."""
    if isinstance(value, dict):
        return {name: unmarked(item) for name, item in value.items() if name != "cache_control"}
    return [unmarked(item) for item in value] if isinstance(value, list) else value


def written(body: dict[str, Any], messages: int) -> str:
    """The bytes of a prompt in the order in which the vendor reads them, up to so many messages. Keys are not sorted."""
    return json.dumps([body["model"], *(unmarked(body[part]) for part in ("tools", "system"))]) + "".join(
        json.dumps(unmarked(message)) for message in body["messages"][:messages]
    )


async def test_successive_turns_of_one_conversation_have_prefixes_that_are_equal_byte_for_byte(
    api: Upstream, tmp_path: Path
) -> None:
    """With processes that waited and new ones alike. (The CLI's own reminder of the date changes at midnight.)"""
    api.reset()
    async with served(adapter_of(api, tmp_path)) as adapter:
        for turns in range(1, len(TALK) + 1, 2):
            await ask(adapter, Prompt(TALK[:turns], system=SYSTEM))
        await ask(adapter, Prompt(TALK, system=SYSTEM))
    bodies = [(json.loads(seen["body"]), seen["body"]) for seen in api.log() if seen["path"].startswith("/v1/messages")]
    assert [len(body["messages"]) for body, _ in bodies] == [1, 3, 5, 7, 9, 9]
    for (earlier, _), (later, _) in pairwise(bodies):
        whole = written(earlier, len(earlier["messages"]))
        assert written(later, len(earlier["messages"])) == whole
        assert written(later, len(later["messages"])).startswith(whole)
    last, again = (body for body, _ in bodies[-2:])
    for body in (last, again):
        del body["metadata"]  # an id of the process's own
    assert json.dumps(last) == json.dumps(again), "one conversation is always written in one way"
