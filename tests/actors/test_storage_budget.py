"""What the log takes on the disk: events and bytes for each request."""

import trio

from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.config import ProviderSettings
from llmux.eventstore import FILE
from tests.actors.house import house_settings, log_of, types_of, wish

REQUESTS = 500
BYTES_MAX = 2_000
MODELS = {
    "claude": (50, "claude-opus-4-5"),
    "gemini": (30, "gemini-3-flash-preview"),
    "codex": (15, "gpt-5.2-codex"),
    "ollama": (5, "qwen3:14b"),
}


def providers() -> dict[str, ProviderSettings]:
    """The four as they are named and weighted by default, answered by scripts."""
    return {
        name: ProviderSettings(kind="scripted", weight=weight, default_model=model, models=(model,), concurrency=64)
        for name, (weight, model) in MODELS.items()
    }


async def test_a_direct_request_takes_four_events_and_two_thousand_bytes_at_most(tmp_path, virtual_time):
    settings = house_settings(tmp_path, providers())
    async with open_system(settings, SeededClock(1), environ={}) as system:
        await system.journal.store.give_back(1)
        before = (settings.data_dir / FILE).stat().st_size

        async def ask(number: int) -> None:
            prompt = wish(f"Tell me about number {number}.", endpoint="/v1/chat/completions", model="auto", stream=True)
            with system.request(prompt) as request:
                await request.answer()

        for first in range(0, REQUESTS, 50):
            async with trio.open_nursery() as nursery:
                for number in range(first, first + 50):
                    nursery.start_soon(ask, number)
        events = [event for event in await log_of(system) if event.type != "GatewayStarted"]
        assert len(events) == 4 * REQUESTS
        assert {len(event.fact.candidates) for event in events if event.type == "RequestAccepted"} == {4}
    size = ((settings.data_dir / FILE).stat().st_size - before) / REQUESTS
    assert not (settings.data_dir / f"{FILE}-wal").exists()
    print(f"{size:.0f} bytes and 4 events for a direct request with 4 candidates")
    assert size <= BYTES_MAX


async def test_each_fallback_takes_two_events_more(tmp_path, virtual_time):
    for failing in range(3):
        names = list(MODELS)
        chosen = {
            name: ProviderSettings(
                kind="scripted",
                weight=weight,
                default_model="fail=model_not_found" if names.index(name) < failing else model,
            )
            for name, (weight, model) in MODELS.items()
        }
        settings = house_settings(tmp_path / str(failing), chosen)
        async with open_system(settings, SeededClock(1), environ={}) as system:
            for number in range(20):
                with system.request(wish(f"{number}")) as request:
                    await request.answer()
            types = await types_of(system)
            failed = types.count("AttemptFailed")
            assert failed > 0 or not failing
            assert len(types) == 4 * 20 + 2 * failed


async def test_a_quota_is_recorded_when_it_changes_and_not_with_every_answer(tmp_path, virtual_time):
    settings = house_settings(tmp_path, {"alpha": ProviderSettings(kind="scripted", default_model="used=91,say=hello")})
    async with open_system(settings, SeededClock(1), environ={}) as system:
        for number in range(25):
            with system.request(wish(f"{number}")) as request:
                await request.answer()
        types = await types_of(system)
        assert types.count("QuotaReported") == 1
        assert len(types) == 4 * 25 + 1
