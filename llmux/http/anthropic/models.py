"""GET /v1/models and /v1/models/{id} for whoever sends `anthropic-version`: the same models as in OpenAI's list."""

from typing import TYPE_CHECKING, Literal

import msgspec
from quart import Response

from llmux.failures import ModelUnknown
from llmux.http.access import Door
from llmux.http.anthropic.errors import error_body
from llmux.http.exchange import iso, json_response

if TYPE_CHECKING:
    from llmux.actors.system import System

HEADER = "anthropic-version"


class ModelInfo(msgspec.Struct, frozen=True, tag_field="type", tag="model"):
    """A model. `created_at` is when this gateway started."""

    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"] = "active"


class ModelPage(msgspec.Struct, frozen=True):
    """All models, on one page."""

    data: list[ModelInfo]
    first_id: str | None
    last_id: str | None
    has_more: bool = False


def register(door: Door, system: "System") -> None:
    """Adds this dialect's side of both routes."""
    created = iso(system.clock.now())

    async def models() -> Response:
        names = list(dict.fromkeys(entry.id for entry in system.models()))
        page = [ModelInfo(name, name, created) for name in names]
        return json_response(ModelPage(page, names[0] if names else None, names[-1] if names else None))

    async def model(id: str) -> Response:
        names = tuple(dict.fromkeys(entry.id for entry in system.models()))
        if id not in names:
            raise ModelUnknown(id, names)
        return json_response(ModelInfo(id, id, created))

    door.variant(HEADER, "GET /v1/models", models, error_body)
    door.variant(HEADER, "GET /v1/models/<path:id>", model, error_body)
