"""What the tests over the real Gemini CLI share, and those over the real Codex."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.codex_running import Make, maker
from tests.real.gemini_running import FLASH, OLD, PRO, Running, adapter_of, run, with_key
from tests.upstreams.running import Upstream, upstream


@pytest.fixture(scope="module")
def gemini_api() -> Iterator[Upstream]:
    with upstream("gemini") as standing_in:
        yield standing_in


@pytest.fixture(scope="module")
def shared_gemini(gemini_api: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("gemini")
    adapter = adapter_of(directory, with_key(gemini_api), models=(FLASH, PRO, OLD), concurrency=2, warm=1)
    with run(adapter, gemini_api, directory) as running:
        yield running


@pytest.fixture
def gemini(shared_gemini: Running) -> Running:
    """The shared adapter, with a stand-in that has forgotten everything."""
    shared_gemini.api.reset()
    return shared_gemini


@pytest.fixture(scope="module")
def running_codex_api() -> Iterator[Upstream]:
    with upstream("openai") as standing_in:
        yield standing_in


@pytest.fixture
def codex_api(running_codex_api: Upstream) -> Upstream:
    """A stand-in of OpenAI that has forgotten everything."""
    running_codex_api.reset()
    return running_codex_api


@pytest.fixture
def make_codex(codex_api: Upstream, tmp_path: Path) -> Make:
    """Makes adapters over the real Codex, with a login in `tmp_path`/login unless told otherwise."""
    return maker(codex_api, tmp_path)
