"""The contract of every provider adapter, and what it is handed.

An adapter knows one provider's wire and nothing of actors, routing, HTTP or the log. It is driven by its provider actor:

    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)          # warm workers live in here; cancelled at the stop
        readiness = await adapter.probe()
        await adapter.answer(call, emit, report)    # any number at the same time, up to `concurrency`

The contract, checked by tests/contracts for all adapters alike:

* `answer` emits the chunks of exactly one answer, in order, and the last one is the only `Finish`. It then returns.
  A prompt that is an `embedding` is answered with `Vectors`, or refused (UNSUPPORTED) before any work.
* A bad end is a `ProviderFailure`, raised from `answer`; nothing else may leave it. What was emitted before stays emitted.
* Error texts, empty answers and cut answers are failures, never chunks.
* Cancelling `answer` at any point stops the provider's work for it (process group or connection gone) within a second, and
  leaves nothing behind. Deadlines for first byte, idle and total are NOT the adapter's: its actor cancels it.
* `probe` spends no tokens and does not raise: what is wrong stands in the `Readiness`. It asks the vendor nothing, except for
  the state of a quota, once in `usage_interval_ms` at most.
* Nothing of a prompt becomes an argument, an environment value, a path or a URL.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from llmux.clock import Clock
from llmux.config import Account, Limits, ProviderSettings
from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Chunk, Prompt


class Call(msgspec.Struct, frozen=True):
    """One attempt. `model` is the model as clients name it, `upstream_model` as the provider must be told."""

    prompt: Prompt
    model: str
    upstream_model: str
    request_id: str = ""


class QuotaWindow(msgspec.Struct, frozen=True):
    """What a provider said about one of its quotas. `model` "*" means that the window covers the whole account.

    `window` is the provider's name for it ("five_hour", "seven_day", "primary" …); `status` is "allowed", "warning" or
    "rejected"; `used_percent` 0 to 100 or None; `resets_at` wall time in ms or None.
    """

    window: str
    status: str
    model: str = "*"
    used_percent: int | None = None
    resets_at: int | None = None


class Listed(msgspec.Struct, frozen=True):
    """What a provider says of a model when it lists it; "" and 0 where it does not say.

    `capabilities` is None where it does not say; `modified_at` is ISO 8601 text.
    """

    name: str
    modified_at: str = ""
    size_bytes: int = 0
    digest: str = ""
    format: str = ""
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    quantization_level: str = ""
    capabilities: tuple[str, ...] | None = None


class Readiness(msgspec.Struct, frozen=True):
    """What a probe found out. `sentence` says what is wrong or missing and what to type; "" when all is well.

    `login_stamp` changes whenever the stored login changes (for instance "mtime-size" of the credentials file): the actor
    compares it, to notice that somebody logged in again. `models` are those the provider itself lists, by client name.
    `listed` is what it says of them, where it says anything.
    `windows` is what was learned about quotas since the last probe, other than from answers: the actor reports it.
    """

    installed: bool
    logged_in: bool
    version: str = ""
    sentence: str = ""
    login_stamp: str = ""
    models: tuple[str, ...] = ()
    listed: tuple[Listed, ...] = ()
    windows: tuple[QuotaWindow, ...] = ()

    @property
    def ready(self) -> bool:
        return self.installed and self.logged_in


class WorkerStatistics(msgspec.Struct, frozen=True):
    """How many workers an adapter has, by state, and how many it has started and replaced since the start."""

    starting: int = 0
    idle: int = 0
    busy: int = 0
    started: int = 0
    recycled: int = 0
    lost: int = 0


class Place(msgspec.Struct, frozen=True):
    """What an adapter may use: its settings, one account, and a private directory (0700) that it may fill and must bound.

    `environ` is the gateway's own environment: an adapter passes on only what its CLI needs (HOME, PATH, the login).
    """

    name: str
    settings: ProviderSettings
    account: Account
    limits: Limits
    directory: Path
    environ: dict[str, str]
    clock: Clock


def log_in(place: Place) -> str:
    """What to type so that the vendor's own program asks for the login of this account."""
    return f"llmux login {place.name}" + (
        f" --account {place.account.name}" if len(place.settings.accounts) > 1 else ""
    )


Emit = Callable[[Chunk], Awaitable[None]]
"""Passes one chunk on. It waits when the reader is slow."""

Report = Callable[[QuotaWindow], None]
"""Passes on what the provider said about a quota. Never waits."""


def unsupported(sentence: str, evidence: str) -> ProviderFailure:
    """For a prompt that is good but that this provider cannot be given: another one perhaps can, so the next route is tried."""
    return ProviderFailure(Kind.UNSUPPORTED, sentence, evidence=evidence)


def refuse_if_strict(prompt: Prompt, ignored: tuple[str, ...]) -> None:
    """Raises ProviderFailure (UNSUPPORTED) when the prompt is strict and there are wishes that would be left out."""
    if prompt.strict and ignored:
        raise unsupported(f"This provider cannot carry out: {', '.join(ignored)}.", "gateway.strict")


def refuse_embedding(prompt: Prompt) -> None:
    """Raises ProviderFailure (UNSUPPORTED) when vectors are asked for. For adapters of providers that make none."""
    if prompt.embedding is not None:
        raise ProviderFailure(Kind.UNSUPPORTED, "It makes no embeddings.", evidence="gateway.no_embeddings")


class Adapter(Protocol):
    """One provider, one account."""

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the warm workers; runs until cancelled, then leaves no process behind. Must start even if the CLI is missing."""

    async def probe(self) -> Readiness:
        """Looks whether the provider can be used. Bounded by `limits.probe_ms_max`."""

    async def answer(self, call: Call, emit: Emit, report: Report) -> None:
        """Answers one prompt. Raises ProviderFailure. `serve` must be running."""

    def accepts(self, model: str) -> bool:
        """Whether a model that is not in the configured list may be asked for (default: no)."""

    def statistics(self) -> WorkerStatistics:
        """The state of its workers now."""
