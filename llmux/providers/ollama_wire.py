"""Ollama's native chat protocol as pure functions: a prompt to its request, its lines to facts, its refusals to failures."""

import re
from typing import Any

import msgspec

from llmux.failures import Kind, ProviderFailure, printable
from llmux.prompts import Image, Message, Prompt, Text
from llmux.providers.adapter import unsupported

BYTES_PER_TOKEN_MAX = 8
"""No prompt that people write has more bytes per token than this (ordinary text has about 4)."""


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON of the wanted form (invalid UTF-8 is a UnicodeDecodeError of its own)."""


class ModelFacts(msgspec.Struct, frozen=True):
    """What /api/show says about a model. None = it does not say."""

    window_tokens: int | None = None
    """the `num_ctx` that the model is served with; set only where the model's own parameters name it"""
    window_tokens_max: int | None = None
    """the longest prompt that the model can be served with at all"""
    sees: bool | None = None
    thinks: bool | None = None
    thinks_by_level: bool = False
    """takes "low", "medium" or "high" where other models take true (gpt-oss), and cannot do without thinking"""


class _Show(msgspec.Struct):
    parameters: str = ""
    model_info: dict[str, Any] | None = None
    capabilities: list[str] | None = None
    details: dict[str, Any] | None = None


def facts_of(body: bytes) -> ModelFacts:
    """Reads an answer of /api/show. What cannot be read is unknown."""
    try:
        show = msgspec.json.decode(body, type=_Show)
    except UNREADABLE:
        return ModelFacts()
    found = re.search(r"^num_ctx\s+(\d{1,9})$", show.parameters, re.MULTILINE)
    lengths = [v for k, v in (show.model_info or {}).items() if k.endswith(".context_length") and type(v) is int]
    trained = max(lengths, default=None)
    window = int(found[1]) if found else None
    if window is not None and trained is not None:
        window = min(window, trained)
    able = show.capabilities
    return ModelFacts(
        window_tokens=window,
        window_tokens_max=window or trained,
        sees=None if able is None else "vision" in able,
        thinks=None if able is None else "thinking" in able,
        thinks_by_level=(show.details or {}).get("family") == "gptoss",
    )


# --- the request ---------------------------------------------------------------------------------------------------


def chat_request(prompt: Prompt, model: str, facts: ModelFacts) -> tuple[bytes, tuple[str, ...]]:
    """The body of /api/chat, and the wishes that it cannot carry. Raises ProviderFailure when the prompt cannot be asked at all.

    `truncate` and `shift` false make newer servers refuse what does not fit, where older ones (which do not know these
    fields) drop the beginning in silence. `num_ctx` is never sent: another value than the loaded one reloads the model.
    """
    _refuse(prompt, model, facts)
    think, ignored = _think(prompt, facts)
    request: dict[str, Any] = {
        "model": model,
        "messages": _messages(prompt),
        "stream": True,
        "truncate": False,
        "shift": False,
    }
    if options := _options(prompt):
        request["options"] = options
    if prompt.json_schema is not None:
        request["format"] = dict(prompt.json_schema) or "json"
    if think is not None:
        request["think"] = think
    try:
        return msgspec.json.encode(request), ignored
    except UnicodeEncodeError:
        raise _invalid("The prompt holds text that is not valid Unicode.", "ollama.unicode") from None


def text_bytes(prompt: Prompt) -> int:
    """How large the prompt's text is, in bytes of UTF-8, images left out."""
    texts = [prompt.system, *(message.text for message in prompt.messages)]
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


def _refuse(prompt: Prompt, model: str, facts: ModelFacts) -> None:
    parts = [part for message in prompt.messages for part in message.parts]
    if prompt.tools or any(not isinstance(part, Text | Image) for part in parts):
        raise unsupported("Tools do not reach Ollama through LLMux yet; ask without them.", "ollama.tools")
    if facts.sees is False and any(isinstance(part, Image) for part in parts):
        raise unsupported(f"The model '{printable(model, 100)}' of Ollama sees no images.", "ollama.no_vision")
    if not prompt.system and not any(
        isinstance(part, Image) or part.text for part in parts if isinstance(part, Text | Image)
    ):
        raise _invalid("The prompt is empty.", "ollama.empty_prompt")
    if prompt.sampling.max_tokens is not None and prompt.sampling.max_tokens < 1:  # Ollama takes 0 for "no end"
        raise _invalid("max_tokens is less than 1.", "ollama.max_tokens")
    limit = facts.window_tokens_max
    if limit is not None and text_bytes(prompt) > limit * BYTES_PER_TOKEN_MAX:
        raise ProviderFailure(
            Kind.CONTEXT_TOO_LONG,
            f"The prompt is longer than the {limit} tokens that the model '{printable(model, 100)}' takes in.",
            evidence="ollama.window",
        )


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return system + [_message(message) for message in prompt.messages]


def _message(message: Message) -> dict[str, Any]:
    images = [part.data for part in message.parts if isinstance(part, Image)]
    written: dict[str, Any] = {"role": message.role, "content": message.text}
    if images:
        written["images"] = images
    return written


def _options(prompt: Prompt) -> dict[str, Any]:
    sampling = prompt.sampling
    options = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop": list(sampling.stop) or None,
        "num_predict": sampling.max_tokens,
        "seed": sampling.seed,
    }
    return {name: value for name, value in options.items() if value is not None}


def _think(prompt: Prompt, facts: ModelFacts) -> tuple[bool | str | None, tuple[str, ...]]:
    """What to send as `think`, and whether the wish is lost. Most models only know on and off, and no level is one of both."""
    effort = prompt.sampling.reasoning_effort
    if effort is None:
        return None, ()
    if facts.thinks is False:
        return None, () if effort == "none" else ("reasoning_effort",)
    if facts.thinks_by_level:
        levels = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high"}
        level = levels.get(effort)
        return level, () if level == effort else ("reasoning_effort",)
    return (False, ()) if effort == "none" else (True, ("reasoning_effort",))


# --- the answer ----------------------------------------------------------------------------------------------------


class LineMessage(msgspec.Struct):
    """The piece of the answer in a line."""

    content: str = ""
    thinking: str | None = None
    tool_calls: list[Any] | None = None


class Line(msgspec.Struct):
    """One line of a streamed answer. The counts may be absent, which means 0."""

    model: str = ""
    message: LineMessage | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int = 0
    eval_count: int = 0
    error: Any = None


_LINES = msgspec.json.Decoder(Line)


def read_line(data: bytes) -> Line:
    """One line of NDJSON. Raises ProviderFailure when it is none, or none of a chat."""
    try:
        line = _LINES.decode(data)
    except UNREADABLE:
        raise _garbled("Ollama sent a line that is no part of an answer.", "ollama.bad_line") from None
    if line.error is not None:
        raise _failed_in_stream(line.error)
    if line.message is None and not line.done:
        raise _garbled("Ollama sent a line that is no part of an answer.", "ollama.bad_line")
    if line.message is not None and line.message.tool_calls:
        raise _garbled("The model called a tool that nobody offered.", "ollama.tool_unasked")
    return line


def prompt_was_cut(prompt: Prompt, counted_tokens: int, facts: ModelFacts) -> bool:
    """Whether an older server has dropped a part of the prompt in silence.

    A prompt that fills the whole window was cut to it. So was one of which the server counts so few tokens that each would
    stand for more bytes than tokens do, provided that it could have overflown the window (two bytes per token) at all.
    """
    window = facts.window_tokens
    if not window or not counted_tokens:
        return False
    size = text_bytes(prompt)
    return counted_tokens >= window or (size > 2 * window and size > BYTES_PER_TOKEN_MAX * counted_tokens)


# --- failures ------------------------------------------------------------------------------------------------------


def _invalid(message: str, evidence: str) -> ProviderFailure:
    return ProviderFailure(Kind.INVALID_REQUEST, message, evidence=evidence)


def _garbled(message: str, evidence: str) -> ProviderFailure:
    return ProviderFailure(Kind.GARBLED, message, evidence=evidence)


def _failed_in_stream(error: Any) -> ProviderFailure:
    """An error line under status 200: also how Ollama refuses a `format` that it cannot use."""
    text = error if isinstance(error, str) else ""
    if re.match(r"invalid (format|JSON schema)", text):
        return _invalid(f"Ollama cannot use the JSON schema: {printable(text)}.", "ollama.schema")
    return _garbled("Ollama broke off in the midst of the answer.", "ollama.error_line")


def failure_of(status: int, body: bytes, model: str, retry_after: str = "") -> ProviderFailure:
    """What an answer of /api/chat or /api/embed with another status than 200 means. `retry_after` is the header's text."""
    text = _error_text(body)
    if (text is None and status in (404, 405)) or 300 <= status < 400:
        return ProviderFailure(
            Kind.UNAVAILABLE,
            f"What answers at Ollama's address is not Ollama (status {status}); correct [providers.ollama] url.",
            evidence="ollama.not_ollama",
        )
    quoted = printable(text or "no reason given")
    if status == 404:
        shown = printable(model, 100)
        return ProviderFailure(
            Kind.MODEL_NOT_FOUND,
            f"Ollama does not have the model '{shown}'. Fetch it with: ollama pull {shown}",
            evidence="ollama.404",
        )
    if re.search(r"does not support embedding", text or ""):
        return _no_embeddings(model)
    if status in (400, 413, 422) or (status == 500 and _names_an_option(text or "")):
        if re.search(r"exceed_context_size|context (length|size)|context window", text or ""):
            return ProviderFailure(
                Kind.CONTEXT_TOO_LONG,
                "The prompt is longer than the context that Ollama serves the model with.",
                evidence="ollama.context_refused",
            )
        return _invalid(f"Ollama refuses the request: {quoted}.", "ollama.refused")
    if status == 429:
        spent = "usage limit" in (text or "")
        wait = int(retry_after) * 1000 if re.fullmatch(r"\d{1,7}", retry_after) else None
        kind = Kind.QUOTA_EXHAUSTED if spent else Kind.RATE_LIMITED
        return ProviderFailure(kind, f"Ollama asks to wait: {quoted}.", evidence="ollama.429", retry_after_ms=wait)
    if status == 503:
        return ProviderFailure(Kind.OVERLOADED, "Ollama's queue is full.", evidence="ollama.503")
    if status in (401, 403):  # not LOGGED_OUT: that would take local models out too, which need no sign-in
        return ProviderFailure(
            Kind.UNAVAILABLE,
            f"Ollama asks for a sign-in for '{printable(model, 100)}'. Type: ollama signin",
            evidence="ollama.signin",
            model_only=True,
        )
    its_own = text is not None  # then Ollama is there, and it is the model's runner or its cloud that is not
    return ProviderFailure(Kind.UNAVAILABLE, f"Ollama failed: {quoted}.", evidence="ollama.failed", model_only=its_own)


def _no_embeddings(model: str) -> ProviderFailure:
    sentence = f"The model '{printable(model, 100)}' of Ollama makes no embeddings."
    return ProviderFailure(Kind.UNSUPPORTED, sentence, evidence="ollama.no_embeddings")


def _error_text(body: bytes) -> str | None:
    """The text of `{"error": "text"}`, or None when the body has another form."""
    try:
        decoded = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    error = decoded.get("error") if isinstance(decoded, dict) else None
    return error if isinstance(error, str) else None


def _names_an_option(text: str) -> bool:
    """Older servers answer 500 to an option of a wrong type."""
    return bool(re.match(r"option \S+ must be of type |json: cannot unmarshal |invalid option", text))
