"""v3 defect 2: weights were configured, and every request went to claude."""

import json
from collections import Counter

import msgspec
import trio
from scipy.stats import chisquare

from llmux.clock import SeededClock
from llmux.config import ProviderSettings
from llmux.events import RequestAccepted
from tests.http.served import connected, gateway, settings_of

WEIGHTS = {"claude": 50, "gemini": 30, "codex": 15, "ollama": 5}
CALLS, CONNECTIONS = 2000, 25
SEED = 20_261_122


async def test_two_thousand_smart_calls_over_http_spread_by_weight(tmp_path):
    providers = {
        name: ProviderSettings(kind="scripted", default_model="echo", weight=weight, concurrency=100)
        for name, weight in WEIGHTS.items()
    }
    settings = msgspec.structs.replace(settings_of(tmp_path), providers=providers)
    print("seed", SEED)
    answered: Counter[str] = Counter()
    async with gateway(settings, serving=True, clock=SeededClock(SEED)) as here:

        async def ask(first: int) -> None:
            async with connected(here) as client:
                for number in range(first, CALLS, CONNECTIONS):
                    body = json.dumps({"prompt": f"prompt number {number}"}).encode()
                    await client.ask("POST", "/api/smart", body)
                    reply = await client.reply()
                    assert reply.status == 200, reply
                    assert reply.json["response"] == f"prompt number {number}"
                    answered[reply.json["provider"]] += 1

        async with trio.open_nursery() as nursery:
            for first in range(CONNECTIONS):
                nursery.start_soon(ask, first)
        assert here.system.facts.requests.completed == CALLS
        assert not here.system.facts.requests.open
        recorded = await here.system.journal._store.read(limit=1000, types=(RequestAccepted.__name__,))
        assert len({event.fact.draw for event in recorded}) == len(recorded)
    expected = [CALLS * weight / 100 for weight in WEIGHTS.values()]
    print(dict(answered))
    assert chisquare([answered[name] for name in WEIGHTS], expected).pvalue > 0.001
