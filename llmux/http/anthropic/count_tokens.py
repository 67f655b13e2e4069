"""POST /v1/messages/count_tokens: an estimate, without asking a provider and without an event."""

from typing import TYPE_CHECKING

import msgspec
from quart import Response

from llmux.http.access import Caller, Door, body_bytes
from llmux.http.anthropic.body import Asked, prompt_of
from llmux.http.anthropic.errors import error_body
from llmux.http.anthropic.estimate import tokens_of
from llmux.http.bodies import decoded
from llmux.http.exchange import current, json_response
from llmux.http.operations import Operation
from llmux.prompts import Sampling

if TYPE_CHECKING:
    from llmux.actors.system import System


class TokenCount(msgspec.Struct, frozen=True):
    """About how many tokens the messages, the system prompt and the tools have. It is an estimate, whatever the model."""

    input_tokens: int


OPERATION = Operation(
    "Estimate the tokens of a conversation",
    tag="Anthropic",
    description="No model is asked. The header x-llmux-estimated names the fields of the answer that are estimates.",
    body=Asked,
    answer=TokenCount,
)


def register(door: Door, system: "System") -> None:
    """Opens the route."""
    door.route("POST", "/v1/messages/count_tokens", _count, Caller.USER, error_body, OPERATION)


async def _count() -> Response:
    asked = decoded(await body_bytes(), Asked)
    prompt, _ = prompt_of(asked, current().system.settings.limits, Sampling())
    tools = b"".join(bytes(tool) for tool in asked.tools or ())
    return json_response(TokenCount(tokens_of(prompt, tools)), headers={"x-llmux-estimated": "input_tokens"})
