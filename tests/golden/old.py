"""What the fields of an event could hold at a schema that is not the present one: what its upcast must be able to read.

A field that stands in the second mapping could be left out; that meant the value there.
"""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

_text = st.text(max_size=5)
_number = st.integers(0, 2**53 - 1)
_route = {"provider": _text, "account": _text, "model": _text}

OLD: Mapping[tuple[str, int], tuple[Mapping[str, st.SearchStrategy[Any]], Mapping[str, Any]]] = {
    ("RequestAccepted", 1): (
        {
            "endpoint": _text,
            "model": _text,
            "stream": st.booleans(),
            "pinned": st.booleans(),
            "fingerprint": _text,
            "prompt_bytes": _number,
            "flight": _text,
            "candidates": st.lists(st.fixed_dictionaries({**_route, "weight": _number}), max_size=3),
            "exclusions": st.lists(
                st.fixed_dictionaries({**_route, "reason": _text}, optional={"until": _number}), max_size=3
            ),
            "draw": _number,
            "cache": st.sampled_from(["off", "hit", "miss"]),
            "reserved_tokens": _number,
        },
        {"cache": "off", "reserved_tokens": 0},
    ),
}
