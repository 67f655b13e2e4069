"""Under which names models can be asked for: the router's own answer, without asking anything. Pure."""

import msgspec

from llmux.actors.messages import Principal, Wish
from llmux.actors.router import World, known_models, route
from llmux.config import SMART
from llmux.failures import NOT_ALLOWED, ClientFailure, ModelUnknown
from llmux.prompts import Prompt

NOBODY = Principal(scopes=frozenset())
"""who has no key, and so no limits"""


class Named(msgspec.Struct, frozen=True):
    """What a name stands for.

    `provider` is the one that answers, of several the first in the settings, "" where LLMux chooses; `model` is what that one is
    asked for, "" where LLMux chooses.
    """

    provider: str
    model: str


def named(name: str, world: World) -> Named:
    """What can be asked for by this name: a model, an alias, `provider/model`, `auto`. Raises ModelUnknown, also for what the
    key may not ask for.

    It says nothing about whether a provider is free.
    """
    try:
        routing = route(Wish(prompt=Prompt(messages=()), principal=NOBODY, endpoint="", model=name), world, draw=0)
    except ModelUnknown:
        raise
    except ClientFailure:  # a provider, and no model; or what is not allowed
        raise ModelUnknown(name, known_models(world)) from None
    if not name or name in SMART:
        return Named("", "")
    ways = {way.provider: way.model for way in routing.candidates}
    ways |= {way.provider: way.model for way in routing.excluded if way.reason != NOT_ALLOWED}
    first = min(ways, key=list(world.settings.providers).index)
    return Named(first, ways[first])
