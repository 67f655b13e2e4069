"""`llmux forget`: kept text of prompts and answers is deleted for good, through the running gateway or without one."""

import re
from typing import Any

import click

from llmux import config
from llmux.actors.content import DAY_MS
from llmux.actors.forgetting import Forget, fact_of, forget_alone
from llmux.actors.journal import Journal
from llmux.actors.moments import time_of
from llmux.cli.command import Command
from llmux.cli.control import call, carry_out
from llmux.clock import SystemClock
from llmux.failures import ClientFailure
from llmux.http.content import FORGET


@click.command(cls=Command)
@click.option("--request", "request_id", metavar="ID", default="", help="The text of this request.")
@click.option("--key", "key_id", metavar="ID", default="", help="The text of all requests with this key.")
@click.option("--before", metavar="AGE|TIME", help="All text older than 30d, or kept before 2026-01-01.")
def forget(request_id: str, key_id: str, before: str | None) -> None:
    """Delete kept text of prompts and answers, for good. The log stays as it is, and says that it was done."""
    settings, clock = config.from_environment(), SystemClock()
    now = clock.now()
    which = Forget(request_id, key_id, None if before is None else _time_of(before, now))
    if bool(request_id) + bool(key_id) + (before is not None) != 1:
        raise click.UsageError("Say what to forget: one of --request, --key and --before.")
    fact_of(which, now)
    wanted: dict[str, Any] = {"request": request_id, "key": key_id, "before": which.before}

    async def here(journal: Journal) -> dict[str, int]:
        return {"forgotten": await forget_alone(journal, settings, clock, which)}

    def ask() -> dict[str, int]:
        named = {name: value for name, value in wanted.items() if value not in ("", None)}
        answer: dict[str, int] = call(
            settings, "POST", FORGET, named, timeout_s=settings.limits.forget_ms_max / 1000 + 5
        )
        return answer

    texts = carry_out(settings, ask=ask, here=here)["forgotten"]
    click.echo("Nothing of that was kept." if not texts else f"Forgot the text of {texts} {_requests(texts)}.")


def _requests(count: int) -> str:
    return "request" if count == 1 else "requests"


def _time_of(text: str, now: int) -> int:
    """Wall time in ms: an age in days, or a time, which without a zone is local. Raises BadParameter."""
    days = re.fullmatch(r"([0-9]{1,5})d", text)
    if days:
        return now - int(days[1]) * DAY_MS
    try:
        return time_of(text, "--before", local=True)
    except ClientFailure:
        raise click.BadParameter(
            "write an age such as 30d, or a time such as 2026-01-01", param_hint="--before"
        ) from None
