"""A gateway over scripted providers for every test that asks for one."""

from pathlib import Path

import pytest

from tests.http.served import gateway, settings_of


@pytest.fixture
async def door(tmp_path: Path):
    """An open gateway, called through its application alone; no key is required."""
    async with gateway(settings_of(tmp_path)) as here:
        yield here


@pytest.fixture
async def served(tmp_path: Path):
    """An open gateway that listens on a socket."""
    async with gateway(settings_of(tmp_path, shutdown_grace_ms=1000), serving=True) as here:
        yield here
