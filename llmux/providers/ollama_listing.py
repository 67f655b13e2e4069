"""Ollama's list of models: GET /api/tags, read so that an odd field of one model makes nothing else unreadable. Pure."""

from typing import Any

import msgspec

from llmux.failures import printable
from llmux.providers.adapter import Listed

FAMILIES_MAX = 16


class Tag(msgspec.Struct):
    """A model in the list. What is beside its name and its digest is read with care."""

    name: str
    digest: str = ""
    modified_at: Any = None
    size: Any = None
    details: Any = None
    capabilities: Any = None


class Tags(msgspec.Struct):
    """The list; null when there are none."""

    models: list[Tag] | None


def listed_of(tag: Tag) -> Listed:
    """What the list says of a model."""
    details = tag.details if isinstance(tag.details, dict) else {}
    return Listed(
        name=tag.name,
        modified_at=_text(tag.modified_at),
        size_bytes=tag.size if type(tag.size) is int and 0 <= tag.size < 2**63 else 0,
        digest=_text(tag.digest),
        format=_text(details.get("format")),
        family=_text(details.get("family")),
        families=_texts(details.get("families")),
        parameter_size=_text(details.get("parameter_size")),
        quantization_level=_text(details.get("quantization_level")),
        capabilities=_texts(tag.capabilities) if isinstance(tag.capabilities, list) else None,
    )


def _text(value: Any) -> str:
    return printable(value, 100) if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, value[:FAMILIES_MAX]))) if isinstance(value, list) else ()
