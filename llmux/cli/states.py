"""Facts for people: a section for each actor, with times that say how far away they are, and changes as old -> new."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmux.actors.facts.difference import Change
from llmux.actors.moments import iso
from llmux.actors.usage import day_text
from llmux.failures import printable

VALUE_CHARS_MAX = 300
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


class Moment(msgspec.Struct, frozen=True):
    """A position of the log, and when its event was recorded (wall time in ms; None for the empty log, or if it is archived)."""

    position: int
    time_ms: int | None

    def __str__(self) -> str:
        if not self.position:
            return "the empty log"
        return f"position {self.position}" + ("" if self.time_ms is None else f", {iso(self.time_ms)}")

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"position": self.position, "recorded_at": None if self.time_ms is None else iso(self.time_ms)}


def print_section(actor: str, facts: Mapping[str, Any], now: int | None, console: Console) -> None:
    """Prints the facts of one actor, as `plain` gives them. `now` is the moment (wall time in ms) that they are the facts of."""
    console.print(f"\n{actor}", style="bold", highlight=False)
    entries = {name: value for name, value in facts.items() if isinstance(value, Mapping)}
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold", ratio=1)
    table.add_column(overflow="fold", ratio=3)
    if len(entries) < len(facts):  # a struct, perhaps with maps in it
        for name, value in facts.items():
            if name not in entries:
                table.add_row(f"  {_label(name)}", Text(value_text(name, value, now)))
        for name, inner in entries.items():
            table.add_row(f"  {_label(name)}", "" if inner else "none")
            _add_entries(table, inner, now, indent=4)
    else:
        _add_entries(table, entries, now, indent=2)
    console.print(table if facts else "  none", highlight=False)


def print_changes(changes: Sequence[Change], now: int | None, console: Console) -> None:
    """Prints what changed, actor by actor; times are told from `now` (wall time in ms)."""
    if not changes:
        console.print("Nothing changed.", highlight=False)
    actor = ""
    for change in changes:
        if change.path[0] != actor:
            actor = change.path[0]
            console.print(f"\n{actor}", style="bold", highlight=False)
        old, new = (value_text(change.path[-1], value, now) for value in (change.old, change.new))
        what = {"added": new, "removed": old, "changed": f"{old} -> {new}"}[change.kind]
        path = "  ".join(printable(part, VALUE_CHARS_MAX) for part in change.path[1:])
        console.print(Text(f"{_SIGNS[change.kind]} {path}: {what}"), soft_wrap=True)


def _add_entries(table: Table, entries: Mapping[str, Any], now: int | None, indent: int) -> None:
    """A row for each entry; what its key says already, and what says nothing, is left out."""
    for key, entry in entries.items():
        if not isinstance(entry, Mapping):
            table.add_row(Text(" " * indent + _label(key)), Text(value_text(key, entry, now)))
            continue
        known = {key, *key.split("/", 2)}
        fields = {name: value for name, value in entry.items() if not isinstance(value, str) or value not in known}
        nested = [name for name, value in fields.items() if isinstance(value, Mapping)]
        lines = [_all_of({name: value for name, value in fields.items() if name not in nested}, now)]
        lines += [f"{_label(name)}: {_all_of(fields[name], now)}" for name in nested if fields[name]]
        table.add_row(Text(" " * indent + printable(key, VALUE_CHARS_MAX)), Text("\n".join(filter(None, lines)) or "-"))


# --- values ---------------------------------------------------------------------------------------------------------


def value_text(field: str, value: Any, now: int | None) -> str:
    """A value of a field for people. Times (`…_at`, `until`, `since`, in ms) say how far they are from `now`."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() if field in ("until", "since") or field.endswith("_at"):
            return _time_text(value, now)
        case int() if field == "day":
            return day_text(value)
        case int():
            return f"{value:,}"
        case Mapping():
            return _all_of(value, now) or "-"
        case list() | tuple():
            return printable(", ".join(map(str, value)), VALUE_CHARS_MAX) or "-"
        case str() if field.endswith("sha256"):
            return f"{printable(value[:12])}…"
    return printable(str(value), VALUE_CHARS_MAX)


def _all_of(fields: Mapping[str, Any], now: int | None) -> str:
    return ", ".join(_said(fields, now))


def _said(fields: Mapping[str, Any], now: int | None) -> Iterator[str]:
    for name, value in fields.items():
        if value is None or value in ("", 0, {}, []):
            continue
        text = value_text(name, value, now)
        yield f"{_label(name)} ({text})" if isinstance(value, Mapping) else f"{_label(name)} {text}"


def _label(field: str) -> str:
    return printable(field.replace("_", " "), VALUE_CHARS_MAX)


def _time_text(ms: int, now: int | None) -> str:
    try:
        text = datetime.fromtimestamp(ms // 1000, UTC).isoformat(sep=" ").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # a provider may have said anything
        return f"{ms:,} ms"
    if now is None:
        return text
    return f"{text} (in {_span(ms - now)})" if ms > now else f"{text} ({_span(now - ms)} ago)"


def _span(ms: int) -> str:
    for size, unit in _UNITS:
        if ms >= size:
            return f"{ms // size} {unit}"
    return f"{ms} ms"
