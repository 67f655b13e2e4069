"""Two projects and one cache: an answer, or a flight under way, serves its own project only, unless projects share."""

import random

import pytest

from llmux.actors.messages import Principal
from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.events import AttemptStarted, RequestCompleted
from tests.actors.house import facts_of, house_settings, scripted, wish

SEED = 20261127
PROJECTS = ("poems", "code", "Poems", "poems ", "")


@pytest.mark.parametrize("shared", [False, True], ids=["apart", "shared"])
async def test_in_a_long_random_life_no_answer_crosses_projects_unless_they_share(tmp_path, virtual_time, shared):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    settings = house_settings(tmp_path, {"one": scripted("echo,delay=5")}, cache_shared=shared)
    async with open_system(settings, SeededClock(), environ={}) as system:
        answered, attempts = set(), 0
        for turn in range(40):
            batch = []
            for _ in range(chance.randrange(1, 9)):
                project, text = chance.choice(PROJECTS), f"prompt {turn // 3 + chance.randrange(2)}"
                principal = Principal(id=f"key-{chance.randrange(3)}", user=chance.choice("ab"), project=project)
                asked = wish(text, principal=principal, use_cache=True, stream=chance.random() < 0.5)
                batch.append((None if shared else project, text, system.request(asked)))
            under_way = set()
            for whose, text, request in batch:
                assert (await request.answer()).text == text
                name = (whose, text)
                assert request.source == ("cache" if name in answered else "joined" if name in under_way else "flight")
                under_way.add(name)
            attempts += len(under_way - answered)
            answered |= under_way
        assert len(await facts_of(system, AttemptStarted)) == attempts == len(answered)
        sources = [each.source for each in await facts_of(system, RequestCompleted)]
        assert min(map(sources.count, ("flight", "joined", "cache"))) > 5
