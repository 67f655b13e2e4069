"""What a query says. A name that nobody knows is a 400: a misspelled filter must not answer another question."""

from quart import request

from llmux.failures import ClientFailure, printable

VALUES_MAX = 50
VALUE_CHARS_MAX = 200


def known(names: frozenset[str], *, several: frozenset[str] = frozenset(), what: str = "This path") -> None:
    """Raises ClientFailure for a name that is not among `names`, or that is given more often than it can be; those of
    `several` can be given VALUES_MAX times.
    """
    for name, values in request.args.lists():
        if name not in names:
            shown, takes = printable(name, 40), ", ".join(sorted(names)) or "nothing"
            raise ClientFailure(f"{what} does not know '{shown}' in its query. It takes: {takes}.", param=shown)
        most = VALUES_MAX if name in several else 1
        if len(values) > most:
            raise ClientFailure(f"{name}: at most {most} can be given.", param=name)
        if any(len(value) > VALUE_CHARS_MAX for value in values):
            raise ClientFailure(f"{name}: at most {VALUE_CHARS_MAX} characters are taken.", param=name)


def text(name: str) -> str | None:
    """The value of `name`, None where it is not given. Raises ClientFailure for an empty one."""
    value = request.args.get(name)
    if value == "":
        raise ClientFailure(f"{name}: it is empty.", param=name)
    return value
