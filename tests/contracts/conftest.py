"""The rigs of the contract suite, each with a stand-in of its vendor that runs as long as a module's tests."""

from collections.abc import Iterator

import pytest

from tests.contracts.rigs import RIGS, Rig
from tests.contracts.served import Served, served
from tests.upstreams.running import upstream


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rigs_with(attribute): a claim about those rigs only that have the attribute")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes a `rig`, or one at work, runs over all of them: in one order, so that each is set up once a module."""
    if "rig" in metafunc.fixturenames:
        metafunc.parametrize("rig", RIGS, indirect=True, ids=lambda rig: rig.name, scope="module")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def meant(item: pytest.Item) -> bool:
        mark = item.get_closest_marker("rigs_with")
        return mark is None or bool(getattr(item.callspec.params["rig"], mark.args[0]))

    items[:] = [item for item in items if meant(item)]


@pytest.fixture(scope="module")
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    kind: type[Rig] = request.param
    if not kind.standing_in:
        yield kind(None)
        return
    with upstream(kind.standing_in) as api:
        yield kind(api)


@pytest.fixture(scope="module")
def at_work(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The rig's adapter, served for all tests of the module."""
    with served(rig, tmp_path_factory.mktemp(rig.name)) as running:
        yield running
