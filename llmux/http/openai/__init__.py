"""OpenAI's dialect: one module per endpoint, all under /v1."""

from typing import TYPE_CHECKING

from llmux.http.openai import chat, completions, embeddings, models, responses
from llmux.http.openai.errors import error_body

if TYPE_CHECKING:
    from llmux.actors.system import System
    from llmux.http.access import Door

__all__ = ["error_body", "register"]


def register(door: "Door", system: "System") -> None:
    """Opens the routes of this dialect."""
    for endpoint in (chat, completions, embeddings, models, responses):
        endpoint.register(door, system)
