"""Which fields every event has at every schema it ever had, and what is read where one is not written.

`fields.json` maps `Type/schema` (and the name of a struct that stands in events) to pairs of a field and its default; a field
without a default has none. Entries are added by `python -m tests.golden.write fields`, and never changed.
"""

import json
import typing
from pathlib import Path
from typing import Any

import msgspec

from llmux.events import TYPES

FILE = Path(__file__).with_name("fields.json")
Table = dict[str, dict[str, dict[str, Any]]]


def written_down() -> Table:
    """The table as it was recorded."""
    table: Table = json.loads(FILE.read_text())
    return table


def present() -> Table:
    """The table of the events as they are now."""
    table = {f"{name}/{kind.schema}": fields_of(kind) for name, kind in TYPES.items()}
    for part in parts():
        table[part.__name__] = fields_of(part)
    return dict(sorted(table.items()))


def parts() -> list[type[msgspec.Struct]]:
    """The structs that stand in fields of events."""
    found: dict[str, type[msgspec.Struct]] = {}
    for kind in TYPES.values():
        for hint in typing.get_type_hints(kind).values():
            for each in (hint, *typing.get_args(hint)):
                if isinstance(each, type) and issubclass(each, msgspec.Struct):
                    found[each.__name__] = each
    return list(found.values())


def fields_of(kind: type[msgspec.Struct]) -> dict[str, dict[str, Any]]:
    """Each field, in order, with `{"default": …}`, or `{}` where it must be written."""
    return {field.name: _default_of(field) for field in msgspec.structs.fields(kind)}


def _default_of(field: Any) -> dict[str, Any]:
    if field.default is not msgspec.NODEFAULT:
        return {"default": msgspec.to_builtins(field.default)}
    if field.default_factory is not msgspec.NODEFAULT:
        return {"default": msgspec.to_builtins(field.default_factory())}
    return {}
