"""GET /v1/models and /v1/models/{id}: every model that can be asked for by name. Open to everybody; who sends a key sees what
that key may ask for.

The list holds each name once: `auto` first, then the aliases, then the models. `provider/model`, `smart` and names that a
provider takes without listing them are not in it, but each has its page.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import msgspec
from quart import Response

from llmux.actors.catalogue import named
from llmux.failures import ModelUnknown
from llmux.http.access import Caller, Door
from llmux.http.exchange import current, json_response
from llmux.http.openai.errors import error_body
from llmux.http.operations import Operation, Parameter

if TYPE_CHECKING:
    from llmux.actors.messages import Principal
    from llmux.actors.router import World
    from llmux.actors.system import System

CHOSEN = "auto"
OWNER = "llmux"
"""who owns a name that leaves the choice to LLMux"""


class Model(msgspec.Struct, frozen=True):
    """A model. `created` is when this gateway started, in seconds.

    `owned_by` is the provider that answers for it ("llmux" where any may), `root` the model that an alias or a name with its
    provider stands for.
    """

    id: str
    created: int
    owned_by: str
    root: str
    object: Literal["model"] = "model"
    permission: tuple[()] = ()
    parent: None = None


class Models(msgspec.Struct, frozen=True):
    """All names that a client may choose from."""

    data: list[Model]
    object: Literal["list"] = "list"


def register(door: Door, system: "System") -> None:
    """Opens both routes."""
    created = system.clock.now() // 1000

    async def models() -> Response:
        return json_response(Models(listed_models(system, current().principal, created)))

    async def model(id: str) -> Response:
        return json_response(model_of(id, system.world(current().principal), created))

    door.route("GET", "/v1/models", models, Caller.PUBLIC, error_body, LIST)
    door.route("GET", "/v1/models/<path:id>", model, Caller.PUBLIC, error_body, ONE)


def model_of(id: str, world: "World", created: int) -> Model:
    """What is told of one name. Raises ModelUnknown."""
    meant = named(id, world)
    return Model(id, created, meant.provider or OWNER, meant.model or id)


def listed_models(system: "System", principal: "Principal", created: int) -> list[Model]:
    """`auto`, the aliases and the models, each once, and only what leads somewhere when it is asked for by this name."""
    world, listed = system.world(principal), []
    for id in dict.fromkeys((CHOSEN, *system.settings.aliases, *(entry.id for entry in system.models(principal)))):
        with suppress(ModelUnknown):
            listed.append(model_of(id, world, created))
    return listed


LIST = Operation("Every model that can be asked for by name", tag="OpenAI", answer=Models)
ONE = Operation(
    "One model",
    tag="OpenAI",
    answer=Model,
    parameters=(Parameter("id", "path", "The model's name; it may hold slashes"),),
    failures=(404,),
)
