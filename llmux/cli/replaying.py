"""`llmux replay`: the state at any moment, and what changed between two."""

import sys
from functools import partial
from typing import Any

import click
import msgspec
from rich.padding import Padding

from llmux.actors.facts import Facts, plain
from llmux.actors.facts.difference import Change, difference
from llmux.actors.facts.house import FOLDS
from llmux.actors.replaying import replay as fold_log
from llmux.actors.usage import rows
from llmux.cli.command import Command, print_json, read_log
from llmux.cli.moments import moment_of, position_at
from llmux.cli.spent import usage_table
from llmux.cli.states import Moment, print_changes, print_section
from llmux.cli.tables import wide_console
from llmux.eventstore import Reader
from llmux.failures import ArchiveMissing

USAGE_BY = ("key", "provider", "model")


@click.command(cls=Command)
@click.option(
    "--at", "moment", help="A position, or a time such as 2026-11-22T18:30:00Z; the end of the log by default."
)
@click.option("--actor", metavar="NAME", help="Only the facts of this actor, such as quotas.")
@click.option(
    "--diff", "other", metavar="MOMENT", help="What changed between this position or time and the one of --at."
)
@click.option(
    "--json/--table", "as_json", default=None, help="JSON, or for people: the default is what suits the output."
)
def replay(moment: str | None, actor: str | None, other: str | None, as_json: bool | None) -> None:
    """Fold the log to any moment and print the facts of every actor, or what changed between two moments."""
    if actor is not None and actor not in FOLDS:
        raise click.BadParameter(f"there are no facts of '{actor}', but of {', '.join(FOLDS)}", param_hint="--actor")
    if as_json is None:
        as_json = not sys.stdout.isatty()
    if other is None:
        read_log(partial(_print_facts, moment=moment, actor=actor, as_json=as_json))
    else:
        read_log(partial(_print_difference, moment=moment, other=other, actor=actor, as_json=as_json))


async def facts_at(reader: Reader, moment: str | None, option: str) -> Facts:
    """The facts at the moment that somebody typed for `option`; None is the end of the log. Raises BadParameter."""
    until = None if moment is None else await position_at(reader, moment_of(moment, option))
    facts = await fold_log(reader, until=until)
    if until is not None and facts.position < until:
        raise click.BadParameter(f"the log ends at position {facts.position}", param_hint=option)
    return facts


async def _print_facts(reader: Reader, *, moment: str | None, actor: str | None, as_json: bool) -> None:
    facts = await facts_at(reader, moment, "--at")
    state = _only(plain(facts), actor)
    if as_json:
        print_json(state)
        return
    moment_of_state, console = await _moment(reader, facts), wide_console()
    console.print(f"The state at {moment_of_state}", highlight=False)
    for name, its_facts in state.items():
        if name == "usage" and its_facts:
            console.print("\nusage", style="bold", highlight=False)
            console.print(Padding(usage_table(rows(facts, by=USAGE_BY), USAGE_BY), (0, 2)))
        elif name != "position":
            print_section(name, its_facts, moment_of_state.time_ms, console)


async def _print_difference(
    reader: Reader, *, moment: str | None, other: str, actor: str | None, as_json: bool
) -> None:
    one, two = await facts_at(reader, moment, "--at"), await facts_at(reader, other, "--diff")
    before, after = sorted((one, two), key=lambda facts: facts.position)
    changes = difference(_only(plain(before), actor), _only(plain(after), actor))
    began, ended = await _moment(reader, before), await _moment(reader, after)
    if as_json:
        print_json({"from": began.plain(), "to": ended.plain(), "changes": _by_actor(changes)})
    else:
        console = wide_console()
        console.print(f"From {began} to {ended}", highlight=False)
        print_changes(changes, ended.time_ms, console)


def _only(state: dict[str, Any], actor: str | None) -> dict[str, Any]:
    return state if actor is None else {"position": state["position"], actor: state[actor]}


def _by_actor(changes: list[Change]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for change in changes:
        found.setdefault(change.path[0], []).append({**msgspec.structs.asdict(change), "path": change.path[1:]})
    return found


async def _moment(reader: Reader, facts: Facts) -> Moment:
    """When the last event of these facts was recorded, where that can still be read."""
    position = facts.position
    try:
        events = await reader.read(after=position - 1, until=position, limit=1) if position else []
    except ArchiveMissing:  # the state at its end is known without it
        events = []
    return Moment(position, events[0].recorded_at if events else None)
