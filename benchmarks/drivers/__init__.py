"""How each command-line tool is driven without a gateway, for cli_overhead.py: one module per provider, each with a `Driver`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tests.upstreams.running import Upstream


class Shot(NamedTuple):
    """One request, on the system's monotonic clock in ns: when it was made, and when the first piece of its answer was there."""

    asked_ns: int
    heard_ns: int


Ask = Callable[[str], Shot]
"""Makes one request with this text. Whatever has to be ready for it is ready when its clock starts."""


class Driver(Protocol):
    """One provider. `home` is a folder of its own for each login: HOME of everything that is started."""

    name: str
    stand_in: str
    """the module in tests/upstreams"""
    model: str
    """as clients of the gateway name it"""
    logins: tuple[str, ...]
    settle_s: float
    """how long at least the gateway is left alone after an answer, so that it has warm workers again"""
    certificates: bool
    """whether the stand-in has to be an HTTPS proxy too"""
    at_once: int
    """how many requests at one time the gateway is to answer without mixing them up; 0: that is not tried"""
    echo: dict[str, Any]
    """what the stand-in is told so that it answers with the words of the request"""
    stall: dict[str, Any]
    """what the stand-in is told so that it begins an answer and then says nothing more"""

    def prepare(self, home: Path, login: str, api: Upstream) -> dict[str, str]:
        """Writes the login; returns what the gateway's own environment needs beyond the usual."""

    def toml(self, home: Path, login: str, api: Upstream) -> str:
        """The gateway's [providers.NAME], and whatever else it needs."""

    def is_model_call(self, seen: dict[str, Any]) -> bool:
        """Whether this request, in the stand-in's log, is one for an answer."""

    def warm(self, home: Path, login: str, api: Upstream) -> AbstractContextManager[Ask]:
        """The bare protocol, with a program that waits already."""

    def cold(self, home: Path, login: str, api: Upstream, text: str) -> Shot:
        """The bare protocol, with a program that is started for it."""

    def one_shot(self, home: Path, login: str, api: Upstream, text: str) -> Shot:
        """What LLMux 3.0 did: one command per request, with the program's own defaults."""
