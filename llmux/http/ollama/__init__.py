"""Ollama's dialect: one module per group of endpoints, all under /api, for the models of all providers alike.

They are there a second time under /ollama/api: for clients that take a base URL with a path, and for which /api/generate, which
has two meanings at the root, must have Ollama's alone.
"""

from typing import TYPE_CHECKING

from llmux.http.access import Below
from llmux.http.ollama import chat, embed, generate, models, server
from llmux.http.ollama.errors import error_body

if TYPE_CHECKING:
    from llmux.actors.system import System
    from llmux.http.access import Door

__all__ = ["error_body", "register"]


def register(door: "Door", system: "System") -> None:
    """Opens the routes of this dialect."""
    generate.register(door, system)
    for endpoints in (chat, embed, models, server):
        for opened in (door, Below(door, "/ollama")):
            endpoints.register(opened, system)
    server.register_root(door)
