"""GET /v1/models and /v1/models/{id}: every model that can be asked for by name. Open to everybody."""

from typing import TYPE_CHECKING

import msgspec
from quart import Response

from llmux.failures import ModelUnknown
from llmux.http.access import Caller, Door
from llmux.http.exchange import json_response
from llmux.http.openai.errors import error_body
from llmux.http.operations import Operation, Parameter

if TYPE_CHECKING:
    from llmux.actors.system import ModelEntry, System


class Model(msgspec.Struct, frozen=True):
    """A model. `created` is when this gateway started, in seconds; `owned_by` is the provider that answers for it."""

    id: str
    created: int
    owned_by: str
    root: str
    object: str = "model"
    permission: tuple[str, ...] = ()
    parent: str | None = None


class Models(msgspec.Struct, frozen=True):
    """All models, the configured ones first."""

    data: list[Model]
    object: str = "list"


def register(door: Door, system: "System") -> None:
    """Opens both routes."""
    created = system.clock.now() // 1000

    def told(entry: "ModelEntry") -> Model:
        return Model(entry.id, created, entry.provider, entry.id)

    async def models() -> Response:
        entries: dict[str, ModelEntry] = {}
        for entry in system.models():  # of two providers that offer a model, the first in the settings
            entries.setdefault(entry.id, entry)
        return json_response(Models([told(each) for each in entries.values()]))

    async def model(id: str) -> Response:
        for entry in system.models():
            if entry.id == id:
                return json_response(told(entry))
        raise ModelUnknown(id, tuple(dict.fromkeys(entry.id for entry in system.models())))

    door.route("GET", "/v1/models", models, Caller.PUBLIC, error_body, LIST)
    door.route("GET", "/v1/models/<path:id>", model, Caller.PUBLIC, error_body, ONE)


LIST = Operation("Every model that can be asked for by name", tag="OpenAI", answer=Models)
ONE = Operation(
    "One model",
    tag="OpenAI",
    answer=Model,
    parameters=(Parameter("id", "path", "The model's name; it may hold slashes"),),
    failures=(404,),
)
