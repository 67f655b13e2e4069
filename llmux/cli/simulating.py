"""`llmux simulate`: how the recorded requests would have fallen with other weights or rules. No model is asked."""

import re
import sys
from collections.abc import Mapping
from functools import partial

import click
import msgspec

from llmux.actors.facts import EMPTY, Facts
from llmux.actors.replaying import PAGE, sealed, skips
from llmux.actors.simulation import RESTING_KINDS, Rules, Simulation, Window
from llmux.cli.command import Command, print_json, read_log
from llmux.cli.moments import moment_of
from llmux.cli.simulated import print_report, sentences
from llmux.config import Limits
from llmux.eventstore import Reader, vouched_origin
from llmux.failures import ArchiveMissing

WEIGHT_MAX = 10_000
_REST_MS_MIN = 1_000
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@click.command(cls=Command)
@click.option(
    "--weights", metavar="NAME=N,…", help="New weights, such as claude=70,gemini=30; others stay as recorded."
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="RULE",
    help="cooldown=300s (or cooldown.claude=5m, cooldown.overloaded=1m, cooldown.claude.quota_exhausted=1h): how long a "
    "route rests where the provider does not say; no-fallback: one route and no other. May be given more than once.",
)
@click.option("--from", "since", metavar="MOMENT", help="Count requests from this position or time on.")
@click.option("--to", "until", metavar="MOMENT", help="Stop at this position or time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def simulate(
    weights: str | None, policies: tuple[str, ...], since: str | None, until: str | None, as_json: bool
) -> None:
    """Replay the recorded requests through the router with other weights or rules, and show what would have changed.

    No model is asked. What the log cannot know is an estimate, and marked so.
    """
    given = weights_of(weights or "")
    read_log(partial(_simulate, weights=given, rules=rules_of(policies), window=_window(since, until), as_json=as_json))


async def _simulate(reader: Reader, *, weights: Mapping[str, int], rules: Rules, window: Window, as_json: bool) -> None:
    start = await _start(reader)
    position, going = start.position, True
    skipped = await skips(reader, after=position)
    simulation = Simulation(weights, rules, window, skipped=skipped, quotas=start.quotas)
    while going and (lines := await reader.lines(after=position, limit=PAGE)):
        going = all(simulation.note(line) for line in lines)
        position = lines[-1].position
    report = simulation.report()
    if report.accepted:
        _check_names(weights, rules, simulation.providers)
    if as_json:
        print_json({**msgspec.to_builtins(report), "sentences": sentences(report)})
    else:
        print_report(report, sys.stdout)


async def _start(reader: Reader) -> Facts:
    """The state before the first event that is read: nothing, or where archives are missing, what the last of them left."""
    origin = await vouched_origin(reader)
    try:
        reader.archives.check(origin.head.position)
    except ArchiveMissing as missing:
        click.echo(f"{missing} What is simulated begins after position {origin.head.position}.", err=True)
        return await sealed(origin)
    return EMPTY


def _check_names(weights: Mapping[str, int], rules: Rules, known: tuple[str, ...]) -> None:
    """Raises BadParameter for a provider that the recorded routing does not have."""
    for option, names in (("--weights", list(weights)), ("--policy", [name for name, _ in rules.cooldowns if name])):
        for name in names:
            if name not in known:
                raise click.BadParameter(
                    f"the log knows no provider '{name}'; it has {', '.join(known)}", param_hint=option
                )


# --- what is typed --------------------------------------------------------------------------------------------------


def weights_of(text: str) -> dict[str, int]:
    """`claude=70,gemini=30` as a mapping. Raises BadParameter."""
    weights: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = part.partition("=")
        if not name or not re.fullmatch(r"[0-9]{1,5}", number) or int(number) > WEIGHT_MAX or name in weights:
            raise click.BadParameter(
                f"'{part}' is no weight; write each provider once, as in claude=70,gemini=30 (0 to {WEIGHT_MAX})",
                param_hint="--weights",
            )
        weights[name] = int(number)
    return weights


def rules_of(texts: tuple[str, ...]) -> Rules:
    """The rules that were typed. Raises BadParameter."""
    cooldowns: dict[tuple[str, str], int] = {}
    fallback = True
    for text in (part.strip() for each in texts for part in each.split(",")):
        what, equals, length = text.partition("=")
        head, *path = what.split(".")
        if text == "no-fallback":
            fallback = False
        elif head == "cooldown" and equals:
            cooldowns[_scope(path, text)] = _length_ms(length)
        else:
            raise _no_rule(text)
    return Rules(cooldowns, fallback)


def _scope(path: list[str], text: str) -> tuple[str, str]:
    """The provider and the kind of failure that a cooldown is for, "" for all."""
    if len(path) == 1 and path[0] in RESTING_KINDS:
        path = ["", *path]
    provider, kind, *more = [*path, "", ""][: max(2, len(path))]
    if more or text.partition("=")[0].endswith(".") or ".." in text or (kind and kind not in RESTING_KINDS):
        raise _no_rule(text)
    return provider, kind


def _no_rule(text: str) -> click.BadParameter:
    return click.BadParameter(
        f"'{text}' is no rule; write no-fallback, cooldown=300s, cooldown.claude=5m or cooldown.claude.KIND=5m, "
        f"where KIND is one of {', '.join(RESTING_KINDS)}",
        param_hint="--policy",
    )


def _length_ms(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|d)", text)
    length_ms = int(found[1]) * _UNITS_MS[found[2]] if found else 0
    if not _REST_MS_MIN <= length_ms <= Limits().cooldown_ms_max:
        raise click.BadParameter(
            f"'{text}' is no length of a rest; write 300s, 5m or 1h: at least 1s, at most 7d", param_hint="--policy"
        )
    return length_ms


def _window(since: str | None, until: str | None) -> Window:
    first, last = (
        None if text is None else moment_of(text, option) for text, option in ((since, "--from"), (until, "--to"))
    )
    return Window(
        first=1 if first is None or first.position is None else first.position,
        first_ms=None if first is None else first.time_ms,
        last=None if last is None else last.position,
        last_ms=None if last is None else last.time_ms,
    )
