"""The owner's door: the control socket of a gateway that listens."""

import os
import socket
import stat
import struct
from contextlib import asynccontextmanager

import pytest
import structlog
import trio

from llmux.http import control
from tests.http.served import Client, connected, gateway, settings_of

HEAD = "/admin/log/head"
PRETENDING = {
    "remote-addr": "<local>",
    "llmux.entrance": "owner",
    "x-forwarded-for": "unix:",
    "forwarded": "for=unix;host=control.sock",
    "x-real-ip": "control.sock",
    "x-admin-key": "",
    "authorization": "Bearer owner",
}


@asynccontextmanager
async def owner(here):
    """A connection to the control socket."""
    async with await trio.open_unix_socket(here.system.settings.data_dir / control.FILE) as stream:
        yield Client(stream)


async def answer(client: Client, path: str = HEAD, headers: dict[str, str] | None = None, method: str = "GET"):
    await client.ask(method, path, headers=headers)
    with trio.fail_after(10):
        return await client.reply()


async def test_the_owner_is_the_admin_without_any_key(served):
    async with owner(served) as client, connected(served) as stranger:
        assert (await answer(client)).status == 200
        assert (await answer(stranger)).json["code"] == "admin_key_not_set"


async def test_the_owner_is_the_admin_also_where_everybody_else_needs_keys(tmp_path):
    settings = settings_of(tmp_path, api_key_required=True, admin_key="an-admin-key-for-tests-0001")
    async with gateway(settings, serving=True) as here, owner(here) as client, connected(here) as stranger:
        assert (await answer(client)).status == 200
        assert (await answer(client, headers={"x-admin-key": "wrong"})).status == 200
        assert (await answer(client, "/api/quota")).status == 200
        assert (await answer(stranger)).json["code"] == "missing_admin_key"


async def test_host_and_origin_mean_nothing_there_and_everything_else_means_the_same(served):
    foreign = {"host": "evil.example.com", "origin": "https://evil.example.com"}
    async with owner(served) as client, connected(served) as stranger:
        assert (await answer(client, headers=foreign)).status == 200
        assert (await answer(stranger, headers=foreign)).json["code"] == "host_not_allowed"
        assert (await answer(client, "/nothing")).status == 404
        wrong_type = {"content-type": "text/plain", "content-length": "2"}
        await client.ask("POST", "/admin/api-keys", headers=wrong_type)
        assert (await client.head()).status_code == 415


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "control.sock"])
async def test_nothing_that_arrives_over_tcp_looks_like_the_owner(served, host):
    async with connected(served) as stranger:
        for name, value in PRETENDING.items():
            reply = await answer(stranger, headers={"host": host, name: value})
            assert reply.status == 403, name
        everything = await answer(stranger, f"{HEAD}?llmux.entrance=owner", {"host": host, **PRETENDING})
        assert everything.status == 403


def test_the_mark_of_the_owner_is_an_object_that_no_client_can_send():
    for value in (True, 1, "owner", b"owner", object(), {}):
        assert not control.by_owner({control._ENTRANCE: value, "state": {control._ENTRANCE: control._OWNERS}})


async def test_another_user_is_turned_away(served, monkeypatch):
    class Peer:
        def __init__(self, user: int):
            self.socket, self._user = self, user

        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option) == (socket.SOL_SOCKET, socket.SO_PEERCRED)
            return struct.pack("3i", 1, self._user, self._user)

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert [control.is_owner(Peer(user)) for user in (0, 1000, 1001, 65534)] == [True, True, False, False]


async def test_who_is_turned_away_hears_why(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "is_owner", lambda stream: False)
    async with gateway(settings_of(tmp_path), serving=True) as here, owner(here) as client, connected(here) as stranger:
        reply = await answer(client, "/health")
        assert (reply.status, reply.json["code"]) == (403, "permission_denied")
        assert (await answer(stranger, "/health")).status == 200


async def test_the_file_is_for_its_owner_alone_and_goes_with_the_gateway(tmp_path):
    path = settings_of(tmp_path).data_dir / control.FILE
    path.parent.mkdir(mode=0o700)
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(path))
    left_behind.close()
    async with gateway(settings_of(tmp_path), serving=True) as here, owner(here) as client:
        found = path.lstat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert (await answer(client)).status == 200
    assert not path.exists()


async def test_what_is_no_socket_is_left_alone_and_the_gateway_serves_without(tmp_path):
    path = settings_of(tmp_path).data_dir / control.FILE
    path.parent.mkdir(mode=0o700)
    path.write_text("mine")
    with structlog.testing.capture_logs() as lines:
        async with gateway(settings_of(tmp_path), serving=True) as here, connected(here) as stranger:
            assert (await answer(stranger, "/health")).status == 200
    assert path.read_text() == "mine"
    assert [line["why"] for line in lines if line["event"] == "no control socket"] == [
        "something that is no socket has its name; move it away"
    ]


async def test_a_data_directory_with_a_long_path_has_its_socket_too(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    async with gateway(settings_of(deep), serving=True) as here:
        directory = here.system.settings.data_dir
        assert len(str(directory)) > control.ADDRESS_BYTES_MAX
        open_before = len(os.listdir("/proc/self/fd"))
        with control.address(directory) as where:
            assert len(where) <= control.ADDRESS_BYTES_MAX
        assert len(os.listdir("/proc/self/fd")) == open_before
        with control.address(directory) as where:
            stream = await trio.open_unix_socket(where)
        async with stream:
            assert (await answer(Client(stream))).status == 200
    assert not (directory / control.FILE).exists()


async def test_strangers_do_not_take_the_owners_place(tmp_path):
    limits = {"connections_max": 1, "control_connections_max": 1}
    async with gateway(settings_of(tmp_path, limits=limits), serving=True) as here, connected(here) as stranger:
        assert (await answer(stranger, "/health")).status == 200
        async with owner(here) as client:
            assert (await answer(client)).status == 200
            async with owner(here) as one_more:
                assert (await answer(one_more)).json["code"] == "too_many_connections"


async def test_idle_connections_of_the_owner_do_not_hold_up_the_stop(tmp_path):
    async with gateway(settings_of(tmp_path), serving=True) as here, owner(here) as client:
        assert (await answer(client)).status == 200
        here.stop.set()
        with trio.fail_after(5):
            await here.stopped.wait()
        assert await client.rest() == b""
