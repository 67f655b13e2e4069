"""The shape of what is read: tables are tables, fields are known and of their type. What is not so is a sentence with its place."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import msgspec

from llmux.failures import ConfigurationWrong, printable

T = TypeVar("T")


def subtable(table: Mapping[str, Any], name: str, where: str, path: str = "") -> dict[str, Any]:
    """The table `name` inside `table`, empty when it is not there. Raises ConfigurationWrong for anything but a table."""
    value = table.get(name, {})
    if not isinstance(value, dict):
        raise ConfigurationWrong(
            f"{where}: '{path or name}' is not a table; write [{path or name}] on a line of its own."
        )
    return value


def refuse_unknown(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raises ConfigurationWrong when a name in `table` is not one of `known`: a typing error must not be silent."""
    for name in table:
        if name not in known:
            raise ConfigurationWrong(
                f"{where}: {quoted(name)} means nothing here; known are {', '.join(sorted(known))}."
            )


def struct_of(values: Mapping[str, Any], cls: type[T], where: str) -> T:
    """`values` as one group of settings. Raises ConfigurationWrong, which names the field."""
    refuse_unknown(values, cls.__struct_fields__, where)  # type: ignore[attr-defined]
    group: T = value_of(values, cls, where)
    return group


def value_of(value: Any, cls: Any, where: str) -> Any:
    """`value` as a `cls`, exactly: no text is a number. Raises ConfigurationWrong."""
    try:
        return msgspec.convert(value, cls, strict=True)
    except msgspec.ValidationError as error:
        words, _, path = str(error).partition(" - at `$")
        inside = path.removesuffix("`").removeprefix(".")
        raise ConfigurationWrong(f"{where}: {f'{inside}: ' if inside else ''}{words}.") from None


def quoted(text: str, limit: int = 60) -> str:
    """`text` for a sentence, unless it may hold a password, as the address of a server can."""
    return (
        "a text that is not repeated here, since it may hold a password"
        if "@" in text
        else f"'{printable(text, limit)}'"
    )
