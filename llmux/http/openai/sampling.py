"""What OpenAI's endpoints say in the same words about how an answer is drawn and streamed. Pure."""

from typing import Annotated, Any, Literal

import msgspec

from llmux.config import Limits
from llmux.failures import ClientFailure
from llmux.http.bodies import check_count
from llmux.prompts import Sampling

Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
UNTOLD: Effort = "max"
"""the effort that no provider tells apart from the one below it: it becomes that one, and is named as ignored"""


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream holds beside the answer. `include_obfuscation` has no effect: nothing is ever padded."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GenerationBody(msgspec.Struct, frozen=True):
    """The fields of all bodies that ask for an answer. Null means: not given."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    stop: str | list[str] | None = None
    max_tokens: Count | None = None
    seed: Seed | None = None
    n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


ONE_ANSWER = "n must be 1: a request has one answer. For more, send it again with the header Cache-Control: no-cache."


def effort_of(asked: Effort | None) -> Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None:
    """The canonical effort."""
    return "xhigh" if asked == "max" else asked


def described(schema: dict[str, Any], description: str | None) -> dict[str, Any]:
    """The schema with a description that stands beside it, so that the model reads it too."""
    return {"description": description, **schema} if description else schema


def sampling_of(body: GenerationBody, limits: Limits) -> Sampling:
    """The canonical sampling, as far as these fields tell it. Raises ClientFailure."""
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    check_count(stop, limits.stop_sequences_max, "stop")
    if not all(stop):
        raise ClientFailure("A stop sequence cannot be empty.", param="stop")
    return Sampling(
        temperature=body.temperature, top_p=body.top_p, stop=stop, max_tokens=body.max_tokens, seed=body.seed
    )
