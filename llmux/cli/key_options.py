"""The options of `llmux keys` that say what a key may: they become the fields that the admin API takes."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from llmux.actors.key_terms import AMOUNT_MAX
from llmux.actors.moments import iso, time_of
from llmux.failures import ClientFailure

F = TypeVar("F", bound=Callable[..., Any])
NONE = "none"
"""what is typed for no limit"""
_AMOUNTS = {
    "requests_per_minute": "Requests in any minute.",
    "requests_per_day": "Requests in a day (UTC).",
    "requests_per_month": "Requests in a month (UTC).",
    "tokens_per_minute": "Tokens in any minute, prompts and answers together.",
    "tokens_per_day": "Tokens in a day (UTC).",
    "tokens_per_month": "Tokens in a month (UTC).",
    "concurrent_requests": "Requests under way at the same time.",
}
_NAMES = {
    "models": "Models it may ask for, separated by commas; NAME* stands for all that begin so.",
    "providers": "Providers that may answer it, separated by commas.",
}
_AGE = re.compile(r"([0-9]{1,5})([dh])")
_AGES_MS = {"d": 86_400_000, "h": 3_600_000}


class Amount(click.ParamType[str | int]):
    """A whole number, or none."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        if value == NONE or isinstance(value, int):
            return NONE if value == NONE else int(value)
        if not re.fullmatch(r"[0-9]{1,13}", str(value)) or not 1 <= int(value) <= AMOUNT_MAX:
            self.fail(f"write a whole number from 1 to {AMOUNT_MAX}, or {NONE}", param, ctx)
        return int(value)


def terms(command: F) -> F:
    """Adds an option for every limit, and --expires."""
    options = [
        click.option(
            "--expires", metavar="AGE|TIME|never", help="Good until then: 30d, 12h or 2027-01-01; never = for ever."
        ),
        *(click.option(_option(name), metavar="NAME,…|none", help=text) for name, text in reversed(_NAMES.items())),
        *(
            click.option(_option(name), type=Amount(), metavar="N|none", help=text)
            for name, text in reversed(_AMOUNTS.items())
        ),
    ]
    for option in options:
        command = option(command)
    return command


def fields_of(options: dict[str, Any], now: int) -> dict[str, Any]:
    """What was typed, as fields of the admin API: `limits` and `expiresAt`, each only where something was. `now` is in ms."""
    typed = {name: options[name] for name in (*_AMOUNTS, *_NAMES) if options[name] is not None}
    fields: dict[str, Any] = {}
    if typed:
        fields["limits"] = {_camel(name): _value(name, value) for name, value in typed.items()}
    if options["expires"] is not None:
        fields["expiresAt"] = None if options["expires"] == "never" else iso(_time_of(options["expires"], now))
    return fields


def written(limits: dict[str, Any]) -> str:
    """The limits of a key in a line: "60 requests per minute, models a, b"; "" where there are none."""
    parts = []
    for name, value in limits.items():
        words = re.sub(r"([A-Z])", lambda found: f" {found[1].lower()}", name)
        if isinstance(value, list):
            parts.append(f"{words} {' '.join(value)}")
        elif value is not None:
            parts.append(f"{value} {words}")
    return ", ".join(parts)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _camel(name: str) -> str:
    return re.sub(r"_(.)", lambda found: found[1].upper(), name)


def _value(name: str, value: Any) -> Any:
    if value == NONE:
        return None
    return [part.strip() for part in value.split(",") if part.strip()] if name in _NAMES else value


def _time_of(text: str, now: int) -> int:
    """Wall time in ms: so long from now, or a time, which without a zone is local. Raises BadParameter."""
    if age := _AGE.fullmatch(text):
        return now + int(age[1]) * _AGES_MS[age[2]]
    try:
        return _shown(time_of(text, "--expires", local=True))
    except ClientFailure:
        raise click.BadParameter(
            "write how long, such as 30d or 12h, a time such as 2027-01-01, or never", param_hint="--expires"
        ) from None


def _shown(ms: int) -> int:
    """A time that can be written as a date. Raises ClientFailure for what lies behind the year 9999."""
    try:
        iso(ms)
    except (ValueError, OverflowError, OSError):
        raise ClientFailure("no such time", param="--expires") from None
    return ms
