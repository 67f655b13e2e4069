"""Anthropic's dialect: /v1/messages and its token count, and /v1/models for whoever sends `anthropic-version`.

answers.py        POST /v1/messages
body.py           the body of a request, and the wish it stands for
conversation.py   messages and their blocks as a canonical conversation
message.py        a whole answer
frames.py         an answer as a stream
count_tokens.py   POST /v1/messages/count_tokens
estimate.py       how the tokens of a prompt are estimated
models.py         GET /v1/models and /v1/models/{id}
errors.py         a problem as Anthropic's clients read it
"""

from typing import TYPE_CHECKING

from llmux.http.anthropic import answers, count_tokens, models
from llmux.http.anthropic.errors import error_body

if TYPE_CHECKING:
    from llmux.actors.system import System
    from llmux.http.access import Door

__all__ = ["error_body", "register"]


def register(door: "Door", system: "System") -> None:
    """Opens the routes of this dialect."""
    for endpoint in (answers, count_tokens, models):
        endpoint.register(door, system)
