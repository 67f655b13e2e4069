"""Turns a canonical prompt into what the Gemini CLI is told: system text, model configuration, history, prompt blocks. Pure."""

import json
import re
from typing import Any

import msgspec

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Image, Message, Part, Prompt, Sampling, Text
from llmux.providers.adapter import unsupported

GUARD = "\u200b"
"""U+200B, put where the CLI would take a text for something else. The model sees it; it is no white space to the CLI."""

_JS_SPACE = " \t\n\v\f\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
"""what String.prototype.trim of JavaScript takes away: the CLI looks at trimmed text"""

_COMMAND_STARTS = ("/", "?", "$")
_CONTEXT_STARTS = ("<session_context>", "<hook_context>")
_SUBSTITUTED = re.compile(r"\$\{(?=AgentSkills\}|SubAgents\}|AvailableTools\}|[^{}\s]*_ToolName\})")

_NEWLINES_KEPT = re.compile(r"\n\n(?=\n)")
"""of more than two newlines in a row, the CLI leaves two in a system text"""

NEUTRAL_SYSTEM = "You are a helpful assistant."
"""what stands in for an absent system text: without any the CLI sends an empty text part, which is no valid instruction"""


class Translation(msgspec.Struct, frozen=True):
    """What a prompt becomes.

    `model_config` is canonical JSON of one alias: {"model", "generateContentConfig"}; equal wishes have equal text.
    `history` holds the turns before the last one as {"type": "user" | "gemini", "content": [parts of the Gemini API]};
    `blocks` is the last turn as ACP content blocks; `ignored` names the wishes that cannot be carried, `wished` all of them.
    """

    system: str
    model_config: str
    history: tuple[dict[str, Any], ...]
    blocks: tuple[dict[str, Any], ...]
    ignored: tuple[str, ...]
    wished: tuple[str, ...]
    max_tokens: int | None


def translate(prompt: Prompt, model: str) -> Translation:
    """`model` is the upstream's name. Raises ProviderFailure(INVALID_REQUEST) for what the CLI cannot be told at all."""
    _check(prompt)
    generate, ignored = _generate_content_config(prompt, model)
    return Translation(
        system=_system(prompt.system),
        model_config=canonical({"model": model, "generateContentConfig": generate}),
        history=tuple(_turn(message) for message in prompt.messages[:-1]),
        blocks=tuple(_block(part) for part in _guarded(prompt.messages[-1].parts)),
        ignored=ignored,
        wished=_wished(prompt),
        max_tokens=prompt.sampling.max_tokens,
    )


def _system(text: str) -> str:
    """The system text with nothing in it that the CLI would change, but for white space at its ends, which it takes away."""
    text = text.strip(_JS_SPACE)
    if not text:
        return NEUTRAL_SYSTEM
    return _SUBSTITUTED.sub("$" + GUARD + "{", _NEWLINES_KEPT.sub("\n\n" + GUARD, text))


def plain_model_config(model: str) -> str:
    """The `model_config` of a prompt that wishes nothing."""
    return canonical({"model": model, "generateContentConfig": _generate_content_config(Prompt(()), model)[0]})


def canonical(value: Any) -> str:
    """JSON with sorted keys: equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _invalid(sentence: str, evidence: str) -> ProviderFailure:
    return ProviderFailure(Kind.INVALID_REQUEST, sentence, evidence=evidence)


def _check(prompt: Prompt) -> None:
    if prompt.tools:
        raise unsupported("The gemini provider cannot pass a client's tools to the model.", "gemini.tools")
    if not prompt.messages or prompt.messages[-1].role != "user" or not prompt.messages[-1].parts:
        raise _invalid("A prompt ends with a message of the user that is not empty.", "gemini.no_user_message")
    if any(not isinstance(part, Text | Image) for message in prompt.messages for part in message.parts):
        raise unsupported(
            "The gemini provider cannot pass tool calls or their results to the model.", "gemini.tool_history"
        )
    try:
        prompt.system.encode()
        for message in prompt.messages:
            message.text.encode()
    except UnicodeEncodeError:
        raise _invalid("The prompt holds half of a surrogate pair, which is no text.", "gemini.surrogate") from None


def _generate_content_config(prompt: Prompt, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    sampling = prompt.sampling
    thinking, carried = _thinking_config(sampling, model)
    config = {
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "maxOutputTokens": sampling.max_tokens,
        "stopSequences": list(sampling.stop) or None,
        "seed": sampling.seed,
        "responseMimeType": None if prompt.json_schema is None else "application/json",
        "responseJsonSchema": dict(prompt.json_schema) if prompt.json_schema else None,
        "thinkingConfig": thinking,
    }
    return {k: v for k, v in config.items() if v is not None}, () if carried else ("reasoning_effort",)


def _wished(prompt: Prompt) -> tuple[str, ...]:
    names = [name for name, value in msgspec.structs.asdict(prompt.sampling).items() if value not in (None, ())]
    return (*names, *(("json_schema",) if prompt.json_schema is not None else ()))


# the models have fewer levels than there are efforts: what becomes another one's is named as ignored
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576}
_LEVELS = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
}
_PRO_LEVELS = {"none": "LOW", "minimal": "LOW", "low": "LOW", "medium": "HIGH", "high": "HIGH", "xhigh": "HIGH"}


def _thinking_config(sampling: Sampling, model: str) -> tuple[dict[str, Any] | None, bool]:
    """The thinkingConfig for a wished effort, and whether it is what was wished. Visible reasoning is always asked for."""
    effort, pro = sampling.reasoning_effort, "pro" in model
    if model.startswith("gemini-3"):
        if effort is None:
            return {"includeThoughts": True}, True
        level = (_PRO_LEVELS if pro else _LEVELS)[effort]
        return {"includeThoughts": True, "thinkingLevel": level}, effort == level.lower()
    if model.startswith("gemini-2.5"):
        if effort is None or (effort == "none" and pro):  # the pro model always thinks
            return {"includeThoughts": True}, effort is None
        return {"includeThoughts": True, "thinkingBudget": _BUDGETS[effort]}, effort not in ("minimal", "xhigh")
    return None, effort is None  # models that do not think refuse a thinkingConfig


def _guarded(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts, with nothing that the CLI would run as a command or leave out.

    It joins the texts, trims, and looks how they begin; a text after an image is safe, but may stand first in a history.
    """
    kept = tuple(part for part in parts if not (isinstance(part, Text) and part.text == ""))
    if not kept:
        return (Text(GUARD),)
    lead = ""
    for part in kept:
        if not isinstance(part, Text):
            break
        lead += part.text
    trimmed = lead.strip(_JS_SPACE)
    nothing = trimmed == "" and all(isinstance(part, Text) for part in kept)
    if nothing or trimmed.startswith(_COMMAND_STARTS) or trimmed.startswith(_CONTEXT_STARTS):
        assert isinstance(kept[0], Text)
        return (Text(GUARD + kept[0].text), *kept[1:])
    return kept


def _turn(message: Message) -> dict[str, Any]:
    content: list[dict[str, Any]] = [
        {"inlineData": {"mimeType": part.media_type, "data": part.data}}
        if isinstance(part, Image)
        else {"text": part.text if isinstance(part, Text) else ""}
        for part in _guarded(message.parts)
    ]
    return {"type": "user" if message.role == "user" else "gemini", "content": content}


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, Image):
        return {"type": "image", "mimeType": part.media_type, "data": part.data}
    assert isinstance(part, Text)
    return {"type": "text", "text": part.text}
