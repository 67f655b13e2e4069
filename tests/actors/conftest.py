"""A real Valkey, and gateways that share their answers in it, for every test that asks for them."""

import gc

import pytest

from tests.actors.sharing import Houses
from tests.upstreams.valkey import valkey


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running
    gc.collect()  # here, and not in a test that follows: what coredis left of the connections that broke


@pytest.fixture
def houses(tmp_path, server):
    return Houses(tmp_path, server)
