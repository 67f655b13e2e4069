"""Counters are a projection of the events; labels are bounded."""

from functools import partial

import trio
from prometheus_client.parser import text_string_to_metric_families

from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.failures import LLMuxError
from llmux.metrics import Metrics
from tests.actors.house import house_settings, scripted, wish


def samples(text: bytes) -> dict[tuple, float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def ask(system, **changes):
    with system.request(wish(**changes)) as request:
        try:
            await request.answer()
        except LLMuxError:
            return


async def test_every_end_of_a_request_is_counted(tmp_path, virtual_time):
    """v3 defect 23: failures and streams were not in the totals."""
    providers = {"good": scripted("echo", models=("say=a:b",)), "bad": scripted("fail=refused")}
    async with open_system(house_settings(tmp_path, providers), SeededClock(), environ={}) as system:
        await ask(system, provider="good", stream=True, use_cache=True)
        await ask(system, provider="good", stream=True, use_cache=True)
        await ask(system, provider="good", model="say=a:b")
        await ask(system, provider="bad")
        system.metrics.rejected("/api/smart", "invalid_json")
        found = samples(system.metrics.render())
    good = (("provider", "good"), ("status", "success"))
    assert found["llmux_requests_total", ("model", "echo"), *good] == 2
    assert found["llmux_requests_total", ("model", "say=a:b"), *good] == 1
    assert found["llmux_requests_total", ("model", "fail=refused"), ("provider", "bad"), ("status", "error")] == 1
    assert found["llmux_errors_total", ("provider", "bad"), ("type", "refused")] == 1
    assert found["llmux_cache_hits_total",] == 1
    assert found["llmux_cache_misses_total",] == 1
    assert found["llmux_tokens_total", ("provider", "good"), ("type", "completion")] == 3
    assert found["llmux_latency_seconds_count", ("provider", "good")] == 3
    assert found["llmux_rejected_total", ("code", "invalid_json"), ("endpoint", "/api/smart")] == 1
    assert found["llmux_active_requests",] == 0
    assert found["llmux_log_position",] > 10


async def test_the_workers_are_shown_by_state(tmp_path, virtual_time):
    async with open_system(house_settings(tmp_path, {"one": scripted("hang")}), SeededClock(), environ={}) as system:

        def busy() -> float:
            where = (("account", "default"), ("provider", "one"), ("state", "busy"))
            return samples(system.metrics.render())["llmux_workers", *where]

        assert busy() == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(ask, system, provider="one"))
            await trio.sleep(1)
            assert busy() == 1
            nursery.cancel_scope.cancel()
        found = [name for name, *_ in samples(system.metrics.render()) if name == "llmux_workers"]
        assert len(found) == 3, "starting, idle and busy, for every account"


def test_a_model_nobody_configured_is_no_label():
    metrics = Metrics(frozenset({"known"}))
    assert metrics._model("known") == "known"
    assert metrics._model("whatever a client wrote") == "other"


def test_the_text_ends_with_a_newline():
    """v3 defect 23."""
    assert Metrics(frozenset()).render().endswith(b"\n")
