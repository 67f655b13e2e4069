"""OpenAI's older completions: the body of a request, and the wish it stands for. Pure.

The prompt is what a user says, in a conversation of this one message: a chat model answers it and does not continue it. What
would need more than that (`echo`, `suffix`, several prompts, token numbers) is refused; what would only be a little different is
reported in `x-llmux-ignored`.
"""

from typing import Annotated

import msgspec

from llmux.actors.messages import Principal, Wish
from llmux.config import Settings
from llmux.failures import ClientFailure
from llmux.http.bodies import decoded, unsupported
from llmux.http.openai.sampling import ONE_ANSWER, GenerationBody, sampling_of
from llmux.prompts import Prompt, user


class CompletionBody(GenerationBody, frozen=True):
    """The body of a request. Null means: not given. `prompt` is a text, or a list of one."""

    prompt: str | list[str | int | list[int]] | None = None
    # refused
    echo: bool | None = None
    suffix: str | None = None
    # ignored, and named
    best_of: Annotated[int, msgspec.Meta(ge=1)] | None = None
    logprobs: int | None = None


class CompletionWish(msgspec.Struct, frozen=True):
    """A wish, and what the response has to look like."""

    wish: Wish
    include_usage: bool
    ignored: tuple[str, ...]


def completion_wish_of(body: bytes, endpoint: str, principal: Principal, settings: Settings) -> CompletionWish:
    """What the body of a request asks for. Without `model` it is for the default provider. Raises ClientFailure."""
    asked = decoded(body, CompletionBody)
    _refuse(asked)
    wish = Wish(
        prompt=Prompt(messages=(user(_text(asked)),), sampling=sampling_of(asked, settings.limits)),
        principal=principal,
        endpoint=endpoint,
        provider="" if asked.model else settings.default_provider,
        model=asked.model or "",
        stream=bool(asked.stream),
    )
    return CompletionWish(wish, asked.include_usage, _ignored(asked))


def _refuse(asked: CompletionBody) -> None:
    """Raises ClientFailure for what cannot be done."""
    if asked.n is not None and asked.n > 1:
        raise unsupported("n", ONE_ANSWER)
    if asked.echo:
        raise unsupported("echo", "echo: a prompt is not repeated before its answer.")
    if asked.suffix:
        raise unsupported("suffix", "suffix: no text is filled in before another one.")


def _ignored(asked: CompletionBody) -> tuple[str, ...]:
    """The wishes that no provider can carry out and that are left out."""
    left_out = {
        "frequency_penalty": asked.frequency_penalty,
        "presence_penalty": asked.presence_penalty,
        "logit_bias": asked.logit_bias,
        "logprobs": asked.logprobs is not None,  # 0 asks for those of the words that were said
        "best_of": (asked.best_of or 1) > 1,
    }
    return tuple(name for name, wished in left_out.items() if wished)


def _text(asked: CompletionBody) -> str:
    """The one text of the prompt. Raises ClientFailure."""
    prompts = asked.prompt if isinstance(asked.prompt, list) else [asked.prompt or ""]
    if not all(isinstance(each, str) for each in prompts):
        raise unsupported("prompt", "prompt: numbers of tokens are not taken; send the text.")
    if len(prompts) > 1:
        raise unsupported("prompt", "prompt: one text per request; send a request for each.")
    text = prompts[0] if prompts else ""
    if not isinstance(text, str) or not text.strip():
        raise ClientFailure("prompt is required", param="prompt", code="missing_prompt")
    return text
