"""What every fact is."""

from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact in the past tense. `schema` counts up when the meaning of its fields changes; readers then need an upcaster.

    A field that has its default is not written, to keep the log small. So a default, once released, never changes.
    """

    schema: ClassVar[int] = 1
