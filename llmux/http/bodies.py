"""From the bytes of a request's body to a typed struct. Whatever is wrong with them is a ClientFailure that names the field."""

import re
from typing import Any, TypeVar

import msgspec

from llmux.failures import ClientFailure, printable

T = TypeVar("T")
_PLACE = re.compile(r" - at `(?:key in )?\$\.?(.*?)`$")


def decoded(body: bytes, cls: type[T]) -> T:
    """The JSON object in `body` as a `cls`; an empty body is an empty object. Raises ClientFailure (400, 422).

    Types are not coerced, unknown fields are ignored, and of a field given twice the last counts.
    """
    try:
        return msgspec.json.decode(body or b"{}", type=cls)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PLACE.search(text)
        param = printable(place.group(1), 100) if place else ""
        what = printable(_PLACE.sub("", text))
        raise ClientFailure(f"{param or 'The body'}: {what}.", param=param or None, code="invalid_type") from None
    except RecursionError:
        raise too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ClientFailure("The body is not valid JSON.", code="invalid_json") from None


def check_depth(value: Any, limit: int, param: str) -> None:
    """Raises ClientFailure (422) when lists and mappings are nested more than `limit` deep in `value`."""
    level, depth = [value], 0
    while level:
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        depth += 1
        if depth > limit and level:
            raise too_deep(param)


def too_deep(param: str | None = None) -> ClientFailure:
    """What is said about JSON that is nested too deep."""
    return ClientFailure("The JSON is nested too deep.", status=422, code="too_deep", param=param)


def check_count(values: "list[Any] | tuple[Any, ...]", limit: int, param: str) -> None:
    """Raises ClientFailure (422) when there are more than `limit` values."""
    if len(values) > limit:
        raise ClientFailure(f"{param}: at most {limit} are taken.", status=422, code="too_many", param=param)


def unsupported(param: str, sentence: str) -> ClientFailure:
    """What is said about a field that asks for something the gateway cannot do."""
    return ClientFailure(sentence, code="unsupported_parameter", param=param)
