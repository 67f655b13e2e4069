"""What a command of ours is: failures are sentences on stderr and an exit code, and it may read the log beside a gateway."""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import click
import trio

from llmux import config
from llmux.eventstore import Reader, open_reader
from llmux.failures import ConfigurationWrong, LLMuxError

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2


class Command(click.Command):
    """A command whose LLMuxErrors are sentences on stderr and an exit code, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        for name, value in ctx.params.items():
            if not _is_text(value):
                raise click.BadParameter("this is no UTF-8 text", ctx, param_hint=name.upper())
        try:
            return super().invoke(ctx)
        except (LLMuxError, BaseExceptionGroup) as raised:
            error = _sole(raised)
            if not isinstance(error, LLMuxError):
                raise
            click.echo(f"llmux: {error}", err=True)
            ctx.exit(EXIT_CONFIGURATION if isinstance(error, ConfigurationWrong) else EXIT_FAILED)


def _is_text(value: Any) -> bool:
    """Whether everything that was typed can be written as UTF-8; bytes that are none arrive as halves of surrogate pairs."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_text, value))
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _sole(error: BaseException) -> BaseException:
    """The only plain exception inside a (possibly nested) group; a group that holds several is itself."""
    inner = error
    while isinstance(inner, BaseExceptionGroup):
        if len(inner.exceptions) > 1:
            return error
        inner = inner.exceptions[0]
    return inner


class Group(click.Group):
    command_class = Command


class CommandWithMore(Command, Group):
    """A command that is typed alone, with its options, and that has further commands under it."""

    def __init__(self, name: str | None = None, *, callback: Callable[..., Any], **options: Any):
        def alone(*values: Any, **named: Any) -> Any:
            return callback(*values, **named) if click.get_current_context().invoked_subcommand is None else None

        super().__init__(name, callback=alone, invoke_without_command=True, **options)


def read_log(work: Callable[[Reader], Awaitable[None]]) -> None:
    """Runs `work` on a reader of the log, whether a gateway runs or not."""
    settings = config.from_environment()

    async def run() -> None:
        async with open_reader(settings.data_dir, settings.limits) as reader:
            await work(reader)

    try:
        trio.run(run)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: Any) -> None:
    """Prints a value for people and programs: indented, with sorted keys."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))
