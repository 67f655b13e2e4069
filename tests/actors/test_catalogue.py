"""What the names of models stand for: the same, whoever is free and whatever is drawn."""

from pathlib import Path

import msgspec
import pytest

from llmux.actors.catalogue import Named, named
from llmux.actors.router import Standing
from llmux.failures import ModelUnknown
from tests.actors.house import WEIGHTS, house_settings
from tests.actors.test_router import world

FIRST, SECOND = list(WEIGHTS)[:2]


def settings(**changes):
    house = house_settings(Path("/nowhere"), **changes)
    models = {
        name: msgspec.structs.replace(each, models=("own-" + name, "shared")) for name, each in house.providers.items()
    }
    return msgspec.structs.replace(house, providers=models)


def test_a_name_stands_for_its_provider_and_model():
    here = world(settings(aliases={"short": f"{SECOND}/shared"}))
    assert named(f"own-{SECOND}", here) == Named(SECOND, f"own-{SECOND}")
    assert named(f"{SECOND}/own-{SECOND}", here) == Named(SECOND, f"own-{SECOND}")
    assert named("short", here) == Named(SECOND, "shared")
    assert named("shared", here) == Named(FIRST, "shared")
    default = here.settings.providers[SECOND].default_model
    assert named(f"{SECOND}/auto", here) == Named(SECOND, default)
    for chosen in ("auto", "smart", ""):
        assert named(chosen, here) == Named("", "")


def test_a_name_stands_for_the_same_when_its_provider_cannot_answer_now():
    away = {f"{FIRST}/default": Standing(installed=False, sentence="It is not installed.")}
    assert named("shared", world(settings(), standings=away)) == Named(FIRST, "shared")


@pytest.mark.parametrize("name", ["no-such", f"{FIRST}/", f"{FIRST}/own-{SECOND}", f"own-{FIRST}/shared", "AUTO"])
def test_what_leads_nowhere_is_unknown(name):
    with pytest.raises(ModelUnknown) as caught:
        named(name, world(settings()))
    assert f"own-{FIRST}" in str(caught.value)
