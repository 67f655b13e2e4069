"""Anthropic's messages: the body of a request, and the wish it stands for. Pure.

What cannot be done is refused where the answer would be another one (tools, servers of tools, containers), and reported in
`x-llmux-ignored` where it would only be a little different. `cache_control`, `metadata` and `service_tier` change no answer:
they are taken and need no report. Unknown fields are ignored.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from llmux.actors.messages import Principal, Wish
from llmux.config import Limits, Settings
from llmux.failures import ClientFailure
from llmux.http.anthropic.conversation import Block, TurnMessage, conversation_of
from llmux.http.bodies import check_count, check_depth, decoded, unsupported
from llmux.http.turns import check_end
from llmux.prompts import Prompt, Sampling

Effort = Literal["none", "low", "medium", "high", "xhigh"]
BUDGETS: tuple[tuple[int, Effort], ...] = ((4_096, "low"), (16_384, "medium"))
"""the effort that stands for a thinking budget of up to so many tokens; what is larger means "high" """


class Thinking(msgspec.Struct, frozen=True):
    """Whether and how much the model thinks, and whether it shows that."""

    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: Annotated[int, msgspec.Meta(ge=1024, le=2**31 - 1)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(msgspec.Struct, frozen=True):
    """The schema that the answer must follow."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, frozen=True):
    """How much effort goes into the answer, and its form."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a request for an answer and one for a count of tokens have in common. Null means: not given."""

    model: str
    messages: list[TurnMessage]
    system: str | list[Block] | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: Any = None


class MessagesBody(Asked, frozen=True, kw_only=True):
    """The body of a request. Null means: not given."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    speed: Literal["standard", "fast"] | None = None
    context_management: Any = None
    compaction: Any = None
    diagnostics: Any = None
    fallbacks: Any = None
    container: Any = None
    mcp_servers: list[Any] | None = None
    thread: Any = None
    inference_geo: str | None = None


class MessagesWish(msgspec.Struct, frozen=True):
    """A wish, and what the response has to look like."""

    wish: Wish
    shows_thinking: bool
    ignored: tuple[str, ...]


_IGNORED = ("top_k", "context_management", "compaction", "diagnostics", "fallbacks")
_REFUSED = {
    "tools": "tools: tools are not supported yet.",
    "tool_choice": "tool_choice: tools are not supported yet.",
    "mcp_servers": "mcp_servers: LLMux calls no servers of tools.",
    "container": "container: there is no container to run code in.",
    "thread": "thread: no conversation is kept; send all of its messages.",
    "inference_geo": "inference_geo: LLMux cannot choose where a provider computes.",
}
PREFILL = "The last message must be of the role user: no provider goes on with an answer that has begun."


def messages_wish_of(body: bytes, endpoint: str, principal: Principal, settings: Settings) -> MessagesWish:
    """What the body of a request asks for. Raises ClientFailure."""
    asked = decoded(body, MessagesBody)
    for name, sentence in _REFUSED.items():
        if getattr(asked, name):
            raise unsupported(name, sentence)
    if not asked.model:
        raise ClientFailure("model: a name is required; 'auto' leaves the choice to LLMux.", param="model")
    effort, left_out = effort_of(asked)
    sampling = Sampling(
        temperature=asked.temperature,
        top_p=asked.top_p,
        stop=_stop(asked.stop_sequences or [], settings.limits),
        max_tokens=asked.max_tokens,
        reasoning_effort=effort,
    )
    prompt, unread = prompt_of(asked, settings.limits, sampling)
    check_end(prompt.messages, "messages", PREFILL)
    wish = Wish(
        prompt=prompt,
        principal=principal,
        endpoint=endpoint,
        model=asked.model,
        stream=bool(asked.stream),
    )
    named = tuple(name for name in _IGNORED if getattr(asked, name) is not None)
    fast = ("speed",) if asked.speed == "fast" else ()
    return MessagesWish(wish, _shows_thinking(asked.thinking), (*named, *fast, *left_out, *unread))


def prompt_of(asked: Asked, limits: Limits, sampling: Sampling) -> tuple[Prompt, tuple[str, ...]]:
    """The canonical prompt, however it ends, and what of its messages was left out by name. Raises ClientFailure."""
    check_count(asked.messages, limits.messages_max, "messages")
    system, turns, left_out = conversation_of(asked.system, asked.messages)
    prompt = Prompt(messages=turns, system=system, sampling=sampling, json_schema=_schema(asked, limits))
    return prompt, left_out


def effort_of(asked: Asked) -> tuple[Effort | None, tuple[str, ...]]:
    """The canonical effort, and the wishes that are not carried out to the letter.

    Thinking that is switched off is no effort; else `output_config.effort` counts ("max" becomes "xhigh"); else a budget stands
    for an effort, as `BUDGETS` says. No provider takes a budget in tokens.
    """
    thinking, wished = asked.thinking, asked.output_config.effort if asked.output_config is not None else None
    left_out: tuple[str, ...] = ()
    if thinking is not None and thinking.budget_tokens is not None:
        left_out += ("thinking.budget_tokens",)
    if thinking is not None and thinking.type == "between_tools":
        left_out += ("thinking.type",)
    if thinking is not None and thinking.type == "disabled":
        return "none", (*left_out, *(("output_config.effort",) if wished is not None else ()))
    if wished == "max":
        return "xhigh", (*left_out, "output_config.effort")
    if wished is not None:
        return wished, left_out
    if thinking is not None and thinking.type == "enabled" and thinking.budget_tokens is not None:
        budget = thinking.budget_tokens
        return next((effort for bound, effort in BUDGETS if budget <= bound), "high"), left_out
    return None, left_out


def _shows_thinking(thinking: Thinking | None) -> bool:
    """Who does not ask for thinking gets none to see: such clients take the first block for the text."""
    return thinking is not None and thinking.type != "disabled" and thinking.display != "omitted"


def _stop(sequences: list[str], limits: Limits) -> tuple[str, ...]:
    check_count(sequences, limits.stop_sequences_max, "stop_sequences")
    if not all(sequences):
        raise ClientFailure("A stop sequence cannot be empty.", param="stop_sequences")
    return tuple(sequences)


def _schema(asked: Asked, limits: Limits) -> Mapping[str, Any] | None:
    form, param = asked.output_format, "output_format.schema"
    if asked.output_config is not None and asked.output_config.format is not None:
        form, param = asked.output_config.format, "output_config.format.schema"
    if form is None:
        return None
    check_depth(form.schema, limits.json_depth_max, param)
    return form.schema
