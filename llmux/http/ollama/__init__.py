"""Ollama's dialect: one module per group of endpoints, all under /api, for the models of all providers alike."""

from typing import TYPE_CHECKING

from llmux.http.ollama import chat, embed, generate, models, server
from llmux.http.ollama.errors import error_body

if TYPE_CHECKING:
    from llmux.actors.system import System
    from llmux.http.access import Door

__all__ = ["error_body", "register"]


def register(door: "Door", system: "System") -> None:
    """Opens the routes of this dialect."""
    for endpoints in (chat, generate, embed, models, server):
        endpoints.register(door, system)
