"""What every client program written in Python shares: its cases run one after the other, and what each saw is printed as JSON.

BASE_URL, API_KEY, ONLY (names joined by ",", all where it is not set)
"""

import json
import os
import traceback
from collections.abc import Callable
from typing import Any

BASE_URL, API_KEY = os.environ["BASE_URL"], os.environ["API_KEY"]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}

_CASES: dict[str, Callable[[], Any]] = {}


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    """Declares a case: it returns what it saw."""
    _CASES[function.__name__] = function
    return function


def run() -> None:
    """Runs the cases and prints what they saw: {name: {"saw": …}} or, of one that failed, {name: {"failed": traceback}}."""
    only = os.environ.get("ONLY")
    seen = {}
    for name, function in _CASES.items():
        if only is None or name in only.split(","):
            try:
                seen[name] = {"saw": function()}
            except Exception:
                seen[name] = {"failed": traceback.format_exc()}
    print(json.dumps(seen))
