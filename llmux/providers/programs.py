"""A provider's program before it runs for long: where it is, what it is given, and what it says when it is asked something short."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmux.config import Limits
from llmux.failures import Kind, ProviderFailure
from llmux.providers.process import LineTooLong, running


def find(command: str, path: str) -> Path | None:
    """The absolute path of the program `command` (a name on `path`, or an absolute path), or None when there is none."""
    found = shutil.which(command, path=path)
    return Path(found).absolute() if found else None


def minimal_environment(environ: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """HOME, PATH and a neutral locale and terminal; then `extra`, and nothing else of the gateway's own environment."""
    kept = {name: environ[name] for name in ("HOME", "PATH") if name in environ}
    return {"LANG": "C.UTF-8", "TERM": "dumb", **kept, **extra}


def writable(file: Path) -> bool:
    """Whether a program could replace this file, or change it in place."""
    return os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)


async def output_of(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, limits: Limits) -> tuple[int, bytes]:
    """Runs a short program to its end: its exit status and its stdout (bounded). Raises ProviderFailure."""
    collected = bytearray()
    async with running(argv, env=env, cwd=cwd, limits=limits) as process:
        await process.close_stdin()
        try:
            while (line := await process.line()) is not None:
                collected += line + b"\n"
                if len(collected) > limits.line_bytes_max:
                    raise LineTooLong
        except LineTooLong:
            raise ProviderFailure(
                Kind.GARBLED, "The provider's program says too much.", evidence="process.output_bound"
            ) from None
        return await process.wait(), bytes(collected)
