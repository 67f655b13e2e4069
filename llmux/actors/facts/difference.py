"""What changed between two states: facts as `plain` gives them, compared field by field. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

_ABSENT: Any = object()


class Change(msgspec.Struct, frozen=True):
    """One thing that is different. `path` leads to it, the actor's name first; what was not there, or is not any more, is None."""

    path: tuple[str, ...]
    kind: Literal["added", "removed", "changed"]
    old: Any = None
    new: Any = None


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """All that is in one state and not, or otherwise, in the other, in the order of the paths; [] for equal states.

    Mappings are looked into, everything else is compared as a whole. A mapping that is only in one of them is one change, which
    holds all of it. The position of the states is no change.
    """
    return [change for change in _between(before, after, ()) if change.path != ("position",)]


def _between(before: Mapping[str, Any], after: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Change]:
    for key in sorted({*before, *after}):
        old, new, here = before.get(key, _ABSENT), after.get(key, _ABSENT), (*path, key)
        if old is _ABSENT:
            yield Change(here, "added", new=new)
        elif new is _ABSENT:
            yield Change(here, "removed", old=old)
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _between(old, new, here)
        elif (type(old), old) != (type(new), new):  # True is no 1
            yield Change(here, "changed", old, new)
