"""What Ollama's chat and generate have in common: options, format and thinking, and the wishes they stand for. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from llmux.config import Limits
from llmux.failures import ClientFailure
from llmux.http.bodies import check_count, check_depth
from llmux.prompts import Sampling

Effort = Literal["none", "low", "medium", "high"]
_KNOWN = frozenset({"temperature", "top_p", "stop", "num_predict", "seed"})
THINKING: Effort = "medium"
"""what `think: true` stands for: to think, and nobody says how hard"""


class Options(msgspec.Struct, frozen=True):
    """How the answer is drawn. What is not listed here is taken, left out, and named in `x-llmux-ignored`.

    A `num_predict` of 0 or less means no limit, a negative `seed` a random one.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    stop: str | list[str] | None = None
    num_predict: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    num_ctx: Any = None
    top_k: Any = None
    min_p: Any = None
    typical_p: Any = None
    repeat_last_n: Any = None
    repeat_penalty: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    mirostat: Any = None
    mirostat_tau: Any = None
    mirostat_eta: Any = None
    penalize_newline: Any = None
    num_keep: Any = None
    num_batch: Any = None
    num_gpu: Any = None
    num_thread: Any = None
    main_gpu: Any = None
    low_vram: Any = None
    use_mmap: Any = None
    use_mlock: Any = None
    numa: Any = None
    tfs_z: Any = None


def sampling_of(options: Options | None, think: "bool | str | None", limits: Limits) -> Sampling:
    """How the answer is to be drawn. Raises ClientFailure."""
    options = options or Options()
    stop = (options.stop,) if isinstance(options.stop, str) else tuple(options.stop or ())
    check_count(stop, limits.stop_sequences_max, "options.stop")
    if not all(stop):
        raise ClientFailure("A stop sequence cannot be empty.", param="options.stop")
    return Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        stop=stop,
        max_tokens=options.num_predict if (options.num_predict or 0) > 0 else None,
        seed=options.seed if (options.seed or 0) >= 0 else None,
        reasoning_effort=_effort(think),
    )


def ignored_of(options: Options | None, **others: Any) -> tuple[str, ...]:
    """The wishes that no provider can carry out: options that are given, and whichever of `others` are not empty."""
    names = () if options is None else options.__struct_fields__
    given = tuple(f"options.{name}" for name in names if name not in _KNOWN and getattr(options, name) is not None)
    return given + tuple(name for name, value in others.items() if value)


def schema_of(form: "str | dict[str, Any] | None", limits: Limits) -> Mapping[str, Any] | None:
    """The schema that the answer must follow, {} for any JSON object, None for text. Raises ClientFailure."""
    if isinstance(form, dict):
        check_depth(form, limits.json_depth_max, "format")
        return form
    if form in (None, ""):
        return None
    if form == "json":
        return {}
    raise ClientFailure('format is "json" or a JSON schema.', param="format")


def _effort(think: "bool | str | None") -> Effort | None:
    if think is None:
        return None
    known: dict[bool | str, Effort] = {
        True: THINKING,
        False: "none",
        "low": "low",
        "medium": "medium",
        "high": "high",
    }
    if think not in known:
        raise ClientFailure('think is true, false, "low", "medium" or "high".', param="think")
    return known[think]
