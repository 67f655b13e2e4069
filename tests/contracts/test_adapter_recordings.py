"""Every recording of a real program, played to the real adapter, ends in exactly its answer or its kind of failure."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from llmux.clock import SystemClock
from llmux.failures import ProviderFailure
from llmux.prompts import Finish
from llmux.providers.adapter import Adapter
from tests.contracts.programs import adapter_over, call_of, installed
from tests.contracts.recorded import NOW, RECORDED, Answer, Row
from tests.contracts.recorded_server import BESIDE, playing
from tests.providers.hearing import Heard, descendants

RECORDINGS = Path(__file__).parents[1] / "providers" / "recordings"
PLAYER = "tests.contracts.playing"
ROWS = [(provider, name) for provider, rows in RECORDED.items() for name in rows]
REASONS = ".stderr"  # lies beside the recording of a silence that it explains


class Then(SystemClock):
    """The wall clock stands still, at the time of the recordings."""

    def now(self) -> int:
        return NOW


def files(provider: str) -> dict[str, Path]:
    return {file.stem: file for file in (RECORDINGS / provider).iterdir() if file.suffix != REASONS}


@asynccontextmanager
async def replaying(provider: str, name: str, row: Row | None, directory: Path) -> AsyncIterator[Adapter]:
    """The adapter at work on a program (of Ollama: a server) that plays the recording."""
    if provider == "ollama":
        async with playing(RECORDINGS / provider, name) as url, trio.open_nursery() as nursery:
            adapter = adapter_over(provider, url, directory)
            await nursery.start(adapter.serve)
            yield adapter
            nursery.cancel_scope.cancel()
        return
    settings = row.settings if row else {}
    env = {"PROTOCOL": provider, "RECORDING": str(files(provider)[name])}
    program = installed(PLAYER, directory)
    async with trio.open_nursery() as nursery:
        adapter = adapter_over(provider, program, directory, env=env, clock=Then(), **settings)
        await nursery.start(adapter.serve)
        yield adapter
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("provider", "name"), ROWS)
async def test_a_recording_ends_in_exactly_its_answer_or_its_failure(provider: str, name: str, tmp_path: Path) -> None:
    row, heard = RECORDED[provider][name], Heard()
    failure: ProviderFailure | None = None
    async with replaying(provider, name, row, tmp_path) as adapter:
        with trio.fail_after(30):
            try:
                await adapter.answer(call_of(provider, row.asked), heard.emit, heard.report)
            except ProviderFailure as error:
                failure = error
    assert descendants() == {}
    assert tuple(heard.windows) == row.windows
    if isinstance(row, Answer):
        assert failure is None, failure.evidence if failure else ""
        finish = heard.answer.finish
        assert (heard.text, heard.reasoning) == (row.text, row.reasoning)
        assert (finish.reason, finish.usage) == (row.reason, row.usage)
    else:
        assert failure is not None
        assert (failure.kind, failure.evidence, heard.text) == (row.kind, row.evidence, row.said)
        assert (failure.resets_at, failure.retry_after_ms) == (row.resets_at, row.retry_after_ms)
        assert not any(isinstance(chunk, Finish) for chunk in heard.chunks)
        assert "\n" not in str(failure)


@pytest.mark.parametrize("provider", RECORDED)
def test_no_recording_is_without_a_row(provider: str) -> None:
    beside = set(BESIDE.values()) if provider == "ollama" else set()
    assert set(files(provider)) == set(RECORDED[provider]) | beside
    reasons = {file.stem for file in (RECORDINGS / provider).iterdir() if file.suffix == REASONS}
    assert reasons <= set(files(provider))


async def test_a_recorded_server_is_ready_and_lists_its_models(tmp_path: Path) -> None:
    async with replaying("ollama", "ok-stream", None, tmp_path) as adapter:
        readiness = await adapter.probe()
    assert (readiness.ready, readiness.version, readiness.models) == (True, "0.9.3", ("tiny:latest",))
