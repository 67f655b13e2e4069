"""What Codex is asked for a prompt: the canonical prompt in the words of the app-server's protocol.

The whole conversation, system text included, is put into a fresh thread as items of the Responses API, and the turn starts
without input of its own. So a text goes up as it is (no mention, command or length rule of a typed input applies), and the
same conversation always makes the same items, ids included: the vendor's prompt cache recognises it.
"""

from pathlib import Path
from typing import Any

import msgspec

from llmux.prompts import Image, Message, Sampling, Text, ToolCall, ToolResult
from llmux.providers.adapter import Call, unsupported
from llmux.providers.codex.images import changes_of
from llmux.providers.codex.roots import place_of


class TurnRequest(msgspec.Struct, frozen=True):
    """The parameters of the three calls of a turn, and its place among the roots.

    `stop` are the sequences that the protocol has no word for, and that are looked for in the answer; `ignored` names the wishes
    that cannot be carried out.
    """

    root: int
    thread: dict[str, Any]
    items: list[dict[str, Any]]
    turn: dict[str, Any]
    ignored: tuple[str, ...]
    stop: tuple[str, ...] = ()


def request_of(call: Call, cwd: Path) -> TurnRequest:
    """Translates a prompt. Raises ProviderFailure: UNSUPPORTED for what Codex cannot be given, INVALID_REQUEST for a bad image."""
    prompt = call.prompt
    if prompt.tools:
        raise unsupported("Codex cannot be given tools here; ask another provider.", "codex.request.tools")
    messages = [_message(message) for message in prompt.messages]
    if prompt.system:
        messages.insert(0, ("developer", [{"type": "input_text", "text": prompt.system}]))
    items = [
        {"type": "message", "id": f"msg_{place:032x}", "role": role, "content": content}
        for place, (role, content) in enumerate(messages, 1)
    ]
    changed = _changes(prompt.messages)
    turn: dict[str, Any] = {"input": []}
    if prompt.sampling.reasoning_effort is not None:
        turn["effort"] = prompt.sampling.reasoning_effort
    if prompt.json_schema:
        turn["outputSchema"] = prompt.json_schema
    return TurnRequest(
        root=place_of("\0".join((call.upstream_model, prompt.system, prompt.messages[0].text))),
        thread=thread_of(call.upstream_model, cwd),
        items=items,
        turn=turn,
        ignored=_ignored(prompt.sampling) + ("json_schema",) * (prompt.json_schema == {}) + changed,
        stop=prompt.sampling.stop,
    )


def thread_of(model: str, cwd: Path) -> dict[str, Any]:
    """The parameters of a thread: all that is not the same for every thread is its model."""
    return {
        "model": model,
        "baseInstructions": "",
        "approvalPolicy": "never",
        "sandbox": "read-only",
        "cwd": str(cwd),
    }


def _message(message: Message) -> tuple[str, list[dict[str, Any]]]:
    written = message.role == "assistant"
    content: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, Text):
            content.append({"type": "output_text" if written else "input_text", "text": part.text})
        elif isinstance(part, Image) and not written:
            # without "original" Codex scales down what is wider than 1600 pixels; it sends "high" upwards
            url = f"data:{part.media_type};base64,{part.data}"
            content.append({"type": "input_image", "image_url": url, "detail": "original"})
        elif isinstance(part, (ToolCall, ToolResult)):
            raise unsupported("Codex cannot be given tool calls here; ask another provider.", "codex.request.tools")
        else:
            raise unsupported("Codex takes images in messages of the user only.", "codex.request.image_role")
    return message.role, content


def _changes(messages: tuple[Message, ...]) -> tuple[str, ...]:
    """What of the images does not arrive as it is. Raises ProviderFailure for one that Codex would leave out."""
    images = [part for message in messages for part in message.parts if isinstance(part, Image)]
    return tuple(dict.fromkeys(change for image in images for change in changes_of(image)))


def _ignored(sampling: Sampling) -> tuple[str, ...]:
    """The wishes that the protocol of the app-server has no word for. (Tokens cannot be counted without the model's tokenizer.)"""
    names = ("temperature", "top_p", "max_tokens", "seed")
    return tuple(name for name in names if getattr(sampling, name) is not None)
