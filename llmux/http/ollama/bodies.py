"""The bodies of Ollama's requests for answers, and the wishes they stand for. Pure, but for the names of models.

What cannot be done is refused where the answer would be another one (tools, raw prompts, templates), and reported in
`x-llmux-ignored` where it would only be a little different. Unknown fields are ignored.
"""

from typing import TYPE_CHECKING, Any

import msgspec

from llmux.actors.messages import Principal, Wish
from llmux.http.bodies import check_count, unsupported
from llmux.http.ollama.messages import ChatMessage, conversation_of, image_named
from llmux.http.ollama.names import model_named
from llmux.http.ollama.options import Options, ignored_of, sampling_of, schema_of
from llmux.prompts import Message, Part, Prompt, Text

if TYPE_CHECKING:
    from llmux.actors.system import System


class ChatBody(msgspec.Struct, frozen=True):
    """The body of a chat. Null means: not given. `keep_alive` is taken and means nothing: the gateway loads no models."""

    model: str | None = None
    messages: list[ChatMessage] | None = None
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: Options | None = None
    think: bool | str | None = None
    tools: list[Any] | None = None
    keep_alive: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class GenerateBody(msgspec.Struct, frozen=True):
    """The body of a generate as Ollama's own clients send it. Null means: not given."""

    model: str | None = None
    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: Options | None = None
    think: bool | str | None = None
    suffix: str | None = None
    template: str | None = None
    raw: bool | None = None
    context: list[int] | None = None
    keep_alive: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class Asked(msgspec.Struct, frozen=True):
    """A wish and what no provider can carry out of it. No wish: the model is only to be loaded, or unloaded."""

    model: str
    wish: Wish | None
    ignored: tuple[str, ...] = ()


def chat_asked(chat: ChatBody, endpoint: str, principal: Principal, system: "System") -> Asked:
    """What the body of a chat asks for. Raises ClientFailure."""
    model = model_named(chat.model, system)
    if chat.tools:
        raise unsupported("tools", "tools: tools are not supported yet.")
    if not chat.messages:
        return Asked(model, None)
    check_count(chat.messages, system.settings.limits.messages_max, "messages")
    text, turns = conversation_of(chat.messages)
    return _asked(chat, model, text, turns, endpoint, principal, system)


def generate_asked(body: GenerateBody, endpoint: str, principal: Principal, system: "System") -> Asked:
    """What the body of a generate asks for. Raises ClientFailure."""
    model = model_named(body.model, system)
    for name in ("suffix", "template", "raw", "context"):
        if getattr(body, name):
            raise unsupported(name, f"{name}: no provider takes it; /api/chat takes whole conversations.")
    images = tuple(image_named(data, f"images[{index}]") for index, data in enumerate(body.images or ()))
    if not images and not (body.prompt or "").strip():
        return Asked(model, None)
    said: tuple[Part, ...] = (Text(body.prompt),) if body.prompt else ()
    turns = (Message("user", (*said, *images)),)
    return _asked(body, model, body.system or "", turns, endpoint, principal, system)


def _asked(
    body: ChatBody | GenerateBody,
    model: str,
    text: str,
    turns: tuple[Message, ...],
    endpoint: str,
    principal: Principal,
    system: "System",
) -> Asked:
    limits = system.settings.limits
    prompt = Prompt(
        messages=turns,
        system=text,
        sampling=sampling_of(body.options, body.think, limits),
        json_schema=schema_of(body.format, limits),
    )
    stream = body.stream is not False
    wish = Wish(prompt=prompt, principal=principal, endpoint=endpoint, model=model, stream=stream)
    ignored = ignored_of(body.options, logprobs=body.logprobs, top_logprobs=body.top_logprobs)
    return Asked(model, wish, ignored)
