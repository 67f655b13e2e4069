"""A prompt as the JSON lines that Claude Code reads: settings first, then the past turns, then the last user message.

Everything a client says travels in these lines and nowhere else: never in arguments, file names or the process's environment.
(CLAUDE_CODE_EXTRA_BODY and CLAUDE_CODE_MAX_OUTPUT_TOKENS below are names of CLI settings that are sent inside a line.)
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Image, Message, Part, Prompt, Sampling, Text, ToolCall, ToolResult
from llmux.providers.adapter import unsupported
from llmux.providers.claude.images import arrives_changed

Frame = dict[str, Any]

THINKING_TOKENS_MIN = 1024
"""The smallest thinking budget that the vendor's API takes."""

_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh"}


class Frames(msgspec.Struct, frozen=True):
    """What is written to the CLI for one prompt.

    `controls` are control requests with the ids "c1", "c2" …, each of which is answered; `turns` are messages, of which every
    user line but the last is answered by a `result` of its own (`awaits_result`). `structured` says that the answer comes as
    the input of the tool StructuredOutput. `ignored` names the wishes that have no place here; `effort` is what is asked for.
    """

    controls: tuple[Frame, ...]
    turns: tuple[Frame, ...]
    structured: bool
    effort: str
    ignored: tuple[str, ...]


def frames_of(prompt: Prompt) -> Frames:
    """Translates. Raises ProviderFailure: UNSUPPORTED for what Claude Code cannot carry, INVALID_REQUEST for what nobody can."""
    if prompt.tools:
        raise unsupported("Tools of the client cannot be passed on to Claude Code yet.", "claude.prompt_tools")
    ignored: list[str] = []
    requests: list[Frame] = [_initialize(prompt)]
    settings = _settings(prompt.sampling, ignored)
    if settings:
        requests.append({"subtype": "apply_flag_settings", "settings": settings})
    changed = [arrives_changed(image) for image in _images(prompt.messages)]  # all are looked at
    if any(changed):
        ignored.append("image_size")
    thinking = thinking_tokens(prompt.sampling)
    if thinking == 0 and prompt.sampling.reasoning_effort not in (
        None,
        "none",
    ):  # it would clash, or is less than can be
        ignored.append("reasoning_effort")
    if thinking is not None:
        requests.append({"subtype": "set_max_thinking_tokens", "max_thinking_tokens": thinking})
    return Frames(
        controls=tuple(
            {"type": "control_request", "request_id": f"c{number}", "request": request}
            for number, request in enumerate(requests, 1)
        ),
        turns=_turns(prompt.messages),
        structured=prompt.json_schema is not None,
        effort=_EFFORTS.get(prompt.sampling.reasoning_effort or "", ""),
        ignored=tuple(ignored),
    )


def _images(messages: tuple[Message, ...]) -> Iterator[Image]:
    for part in (part for message in messages for part in message.parts):
        pieces = part.content if isinstance(part, ToolResult) else (part,)
        yield from (piece for piece in pieces if isinstance(piece, Image))


def awaits_result(frame: Frame) -> bool:
    """Whether the CLI answers this turn with a `result` before it can take the next one (else turns overtake each other)."""
    return frame.get("shouldQuery") is False


# --- settings ------------------------------------------------------------------------------------------------------


def _initialize(prompt: Prompt) -> Frame:
    request: Frame = {"subtype": "initialize", "systemPrompt": [prompt.system] if prompt.system else []}
    if prompt.json_schema is not None:
        request["jsonSchema"] = _object_schema(prompt.json_schema)
    return request


def _object_schema(schema: Mapping[str, Any]) -> Frame:
    """The schema as a tool's input: that is always an object, and has to say so."""
    if schema.get("type", "object") != "object":
        sentence = 'Claude Code can only answer with a JSON object: the schema needs "type": "object".'
        raise unsupported(sentence, "claude.prompt_schema")
    return {"type": "object", **schema}


def _settings(sampling: Sampling, ignored: list[str]) -> Frame:
    body: Frame = {}
    if sampling.temperature is not None:
        body["temperature"] = min(sampling.temperature, 1.0)
        if sampling.temperature > 1:  # the vendor's scale ends at 1
            ignored.append("temperature")
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    if sampling.seed is not None:
        ignored.append("seed")
    env: dict[str, str] = {}
    if body:
        env["CLAUDE_CODE_EXTRA_BODY"] = json.dumps(body)
    if sampling.max_tokens is not None:
        env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(sampling.max_tokens)
    settings: Frame = {"env": env} if env else {}
    if sampling.reasoning_effort in _EFFORTS:
        settings["effortLevel"] = _EFFORTS[sampling.reasoning_effort]
    return settings


def thinking_tokens(sampling: Sampling) -> int | None:
    """The thinking budget to set, or None to leave it to the CLI.

    The vendor refuses temperature and top_p beside thinking, and on models with a budget the CLI would give all but one token
    of `max_tokens` to thinking. Who asks for effort and a limit gets half of the limit as budget.
    """
    effort = sampling.reasoning_effort
    if effort in ("none", "minimal") or sampling.temperature is not None or sampling.top_p is not None:
        return 0
    if sampling.max_tokens is None:
        return None
    half = sampling.max_tokens // 2
    return half if effort is not None and half >= THINKING_TOKENS_MIN else 0


# --- turns ---------------------------------------------------------------------------------------------------------


def _turns(messages: tuple[Message, ...]) -> tuple[Frame, ...]:
    """One line per turn. Neighbours of one role are one turn: the CLI would join them with newlines of its own."""
    turns: list[tuple[str, list[Frame]]] = []
    for message in messages:
        blocks = [_block(part) for part in message.parts if not (isinstance(part, Text) and not part.text)]
        if turns and turns[-1][0] == message.role:
            turns[-1][1].extend(blocks)
        elif blocks:
            turns.append((message.role, blocks))
    if not turns or turns[-1][0] != "user" or all(_blank(block) for block in turns[-1][1]):
        raise _invalid("The last message says nothing.", "empty")
    last = len(turns) - 1
    return tuple(
        _user(blocks, asks=number == last) if role == "user" else _assistant(blocks, number)
        for number, (role, blocks) in enumerate(turns)
    )


def _blank(block: Frame) -> bool:
    return block["type"] == "text" and not block["text"].strip()


def _user(blocks: list[Frame], *, asks: bool) -> Frame:
    results = [block for block in blocks if block["type"] == "tool_result"]  # the API wants them first
    blocks = results + [block for block in blocks if block["type"] != "tool_result"]
    texts = [block for block in blocks if block["type"] == "text"]
    if texts and texts[-1]["text"].startswith("/"):  # else the CLI takes it for a command of its own
        texts[-1]["text"] = " " + texts[-1]["text"]
    frame: Frame = {
        "type": "user",
        "message": {"role": "user", "content": blocks},
    }  # a bare text changes its form later
    return frame if asks else {**frame, "shouldQuery": False}


def _assistant(blocks: list[Frame], number: int) -> Frame:
    """A past answer. Without an id of its own the CLI merges it with others."""
    message = {"id": f"msg_past_{number}", "type": "message", "role": "assistant", "content": blocks}
    return {"type": "assistant", "message": message}


def _block(part: Part) -> Frame:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": part.data}}
    if isinstance(part, ToolCall):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": _arguments(part)}
    return _tool_result(part)


def _tool_result(part: ToolResult) -> Frame:
    block: Frame = {
        "type": "tool_result",
        "tool_use_id": part.call_id,
        "content": [_block(piece) for piece in part.content],
    }
    return {**block, "is_error": True} if part.is_error else block


def _arguments(call: ToolCall) -> Frame:
    try:
        value = json.loads(call.arguments or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _invalid("The arguments of a past tool call are not a JSON object.", "arguments")
    return value


def _invalid(sentence: str, sign: str) -> ProviderFailure:
    return ProviderFailure(Kind.INVALID_REQUEST, sentence, evidence=f"claude.prompt_{sign}")
