"""Drives an adapter as its actor would, and keeps what it says."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from llmux.clock import SystemClock
from llmux.config import DEFAULT_PROVIDERS, Account, Limits, ProviderSettings
from llmux.prompts import Answer, Chunk, Finish, Prompt, ReasoningDelta, TextDelta, answer_of, user
from llmux.providers.adapter import Adapter, Call, Place, QuotaWindow


def place_of(
    name: str,
    directory: Path,
    *,
    environ: dict[str, str] | None = None,
    account: Account | None = None,
    limits: Limits | None = None,
    **settings: Any,
) -> Place:
    """A place with a home and a private directory of its own under `directory`, and the defaults of the provider `name`."""
    home = directory / "home"
    private = directory / "private"
    for folder in (home, private):
        folder.mkdir(parents=True, exist_ok=True)
    return Place(
        name=name,
        settings=ProviderSettings(**{"kind": name, **DEFAULT_PROVIDERS.get(name, {}), **settings}),
        account=account or Account(),
        limits=limits or Limits(),
        directory=private,
        environ={"HOME": str(home), "PATH": os.environ["PATH"], **(environ or {})},
        clock=SystemClock(),
    )


class Heard:
    """What an adapter said for one call."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.windows: list[QuotaWindow] = []

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks if isinstance(chunk, TextDelta))

    @property
    def reasoning(self) -> str:
        return "".join(chunk.text for chunk in self.chunks if isinstance(chunk, ReasoningDelta))

    @property
    def answer(self) -> Answer:
        """The whole answer. Raises when nothing but its last chunk is a Finish."""
        assert [isinstance(chunk, Finish) for chunk in self.chunks].index(True) == len(self.chunks) - 1
        return answer_of(self.chunks)

    async def emit(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        await trio.lowlevel.checkpoint()

    def report(self, window: QuotaWindow) -> None:
        self.windows.append(window)


async def ask(
    adapter: Adapter, prompt: Prompt | str, model: str, upstream_model: str, heard: Heard | None = None
) -> Heard:
    """One answer, with `serve` running around it. What was heard before a failure stays in `heard`."""
    heard = heard if heard is not None else Heard()
    whole = Prompt((user(prompt),)) if isinstance(prompt, str) else prompt
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)
        try:
            await adapter.answer(Call(whole, model, upstream_model), heard.emit, heard.report)
        except BaseException as error:  # outside the nursery it is not wrapped in a group
            raised = error
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised
    return heard


def descendants(pid: int | None = None) -> dict[int, str]:
    """The processes that a process has started, and theirs, with their names (Linux)."""
    found: dict[int, str] = {}
    parents: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
                parents.setdefault(int(rest.split()[1]), []).append((int(entry.name), name))
    todo = [pid or os.getpid()]
    while todo:
        for child, name in parents.get(todo.pop(), []):
            found[child] = name
            todo.append(child)
    return found
