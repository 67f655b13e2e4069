"""GET /v1/models and /v1/models/{id} for whoever sends `anthropic-version`: the same names as in OpenAI's list, on one page.

`limit`, `before_id` and `after_id` change nothing.
"""

from typing import TYPE_CHECKING, Literal

import msgspec
from quart import Response

from llmux.http.access import Door
from llmux.http.anthropic.errors import error_body
from llmux.http.exchange import current, iso, json_response
from llmux.http.openai.models import Model, listed_models, model_of
from llmux.http.operations import Operation

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
    started = system.clock.now()

    async def models() -> Response:
        page = [_told(model) for model in listed_models(system, current().principal, started // 1000)]
        first, last = (page[0].id, page[-1].id) if page else (None, None)
        return json_response(ModelPage(page, first, last))

    async def model(id: str) -> Response:
        return json_response(_told(model_of(id, system.world(current().principal), started // 1000)))

    door.variant("GET /v1/models", HEADER, models, error_body, LIST)
    door.variant("GET /v1/models/<path:id>", HEADER, model, error_body, ONE)


def _told(model: Model) -> ModelInfo:
    return ModelInfo(model.id, model.id, iso(model.created * 1000))


LIST = Operation("Every model that can be asked for by name", tag="Anthropic", answer=ModelPage)
ONE = Operation("One model", tag="Anthropic", answer=ModelInfo)
