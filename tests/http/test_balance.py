"""v3 defect 2: weights were configured, and every request went to claude."""

import json
from collections import Counter

import httpcore
import msgspec
import trio
from scipy.stats import chisquare

from llmux.clock import SeededClock
from llmux.config import ProviderSettings
from llmux.events import RequestAccepted
from tests.http.served import JSON, gateway, settings_of

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
        url = f"http://127.0.0.1:{here.port}/api/smart"
        async with httpcore.AsyncConnectionPool(max_connections=CONNECTIONS) as pool:

            async def ask(first: int) -> None:
                for number in range(first, CALLS, CONNECTIONS):
                    body = json.dumps({"prompt": f"prompt number {number}"}).encode()
                    reply = await pool.request("POST", url, headers=JSON, content=body)
                    assert reply.status == 200, reply.content
                    told = json.loads(reply.content)
                    assert told["response"] == f"prompt number {number}"
                    answered[told["provider"]] += 1

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
