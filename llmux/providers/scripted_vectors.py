"""Vectors that a scripted provider makes: equal texts have equal ones, others point elsewhere; each has the length 1."""

import hashlib
import math

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import packed

DIMENSIONS = 16
DIMENSIONS_MAX = 4_096


def vector_of(text: str, dimensions: int) -> bytes:
    """The vector of `text`, as `Vectors` carries it. Raises ProviderFailure (UNSUPPORTED) beyond `DIMENSIONS_MAX`."""
    if dimensions > DIMENSIONS_MAX:
        raise ProviderFailure(
            Kind.UNSUPPORTED, f"Vectors have at most {DIMENSIONS_MAX} dimensions here.", evidence="scripted.dimensions"
        )
    drawn = hashlib.shake_256(text.encode("utf-8", "replace")).digest(2 * dimensions)
    numbers = [int.from_bytes(drawn[2 * i : 2 * i + 2], "big") - 32_767.5 for i in range(dimensions)]
    length = math.sqrt(sum(number * number for number in numbers))
    return packed([number / length for number in numbers])
