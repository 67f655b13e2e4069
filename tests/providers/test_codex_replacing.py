"""When an app-server is replaced by another: it is worn, or somebody else has logged in. No turn is lost by it."""

from pathlib import Path

import trio

from llmux.config import Limits
from llmux.failures import Kind
from tests.providers.codex_login import write_login
from tests.providers.codex_rig import misbehaving, until
from tests.providers.hearing import Heard


async def test_a_server_that_has_done_its_share_is_replaced_and_finishes_its_own_turns(tmp_path: Path) -> None:
    limits = Limits(stop_ms_max=200, worker_turns_max=2)
    async with misbehaving(tmp_path, "holds", limits=limits) as codex:
        held = Heard()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(codex.say, held)
            while not held.text:
                await trio.sleep(0.01)
            server = codex.adapter._keeper._current
            assert server is not None
            server.turns = 2
            server._released(server)  # as if a turn beside it had ended
            await until(codex, started=2, busy=1, idle=1, recycled=0)
            for _ in range(2):  # the second one wears the successor out, too
                assert (await codex.say()).answer.text == "good answer"
            assert held.text == "at last a "
            Path(f"{codex.heard}.go").touch()
        assert held.answer.text == "at last a good answer"
        await until(codex, started=3, busy=0, idle=1, recycled=2, lost=0)


async def test_a_server_that_has_grown_is_replaced(tmp_path: Path) -> None:
    limits = Limits(stop_ms_max=200, worker_memory_bytes_max=100_000_000)
    async with misbehaving(tmp_path, "grows", limits=limits) as codex:
        await codex.say()
        assert codex.starts() == 1
        await codex.say()
        await until(codex, started=2, idle=1, recycled=1, lost=0)


async def test_no_turn_is_lost_while_servers_are_replaced_all_the_time(tmp_path: Path) -> None:
    limits = Limits(stop_ms_max=200, worker_turns_max=3)
    async with misbehaving(tmp_path, "", limits=limits) as codex:
        heard = [Heard() for _ in range(80)]
        taken = iter(heard)

        async def one_after_the_other() -> None:
            for one in taken:
                await codex.say(one)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one_after_the_other)
        assert {one.answer.text for one in heard} == {"good answer"}
        assert codex.adapter.statistics().started >= 2
        assert codex.adapter.statistics().lost == 0


async def test_when_no_successor_can_be_started_the_worn_server_goes_on(tmp_path: Path) -> None:
    limits = Limits(stop_ms_max=200, worker_turns_max=1)
    async with misbehaving(tmp_path, "", limits=limits) as codex:
        await codex.say()
        await until(codex, started=2, recycled=1)
        (codex.login / "auth.json").unlink()
        for _ in range(3):
            assert (await codex.say()).answer.text == "good answer"
        assert codex.starts() == 2


async def test_a_refused_login_is_tried_again_only_when_the_login_has_changed(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "logged-out") as codex:
        assert (await codex.fails()).kind is Kind.LOGGED_OUT
        await codex.say()
        assert codex.starts() == 1  # the same login: the same server
        Path(f"{codex.heard}.login").unlink()
        assert (await codex.fails()).kind is Kind.LOGGED_OUT
        write_login(codex.login, mark="a longer one, of another size")
        await codex.say()
        assert codex.starts() == 2
        with trio.fail_after(10):
            while codex.adapter.statistics().recycled == 0:
                await trio.sleep(0.01)


async def test_a_login_of_somebody_else_gets_a_server_of_its_own_and_the_old_one_finishes_its_turns(
    tmp_path: Path,
) -> None:
    async with misbehaving(tmp_path, "holds") as codex:
        held = Heard()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(codex.say, held)
            while not held.text:
                await trio.sleep(0.01)
            write_login(codex.login, account="account-2", mark="other")
            assert (await codex.say()).answer.text == "good answer"
            await until(codex, started=2, busy=1, recycled=0)
            Path(f"{codex.heard}.go").touch()
        assert held.answer.text == "at last a good answer"
        await until(codex, started=2, recycled=1, lost=0)


async def test_a_probe_notices_the_login_of_somebody_else_and_a_warm_server_follows(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "", warm=1) as codex:
        await until(codex, started=1, idle=1)
        write_login(codex.login, account="account-2", mark="other")
        await codex.adapter.probe()
        await until(codex, started=2, idle=1, recycled=1)


async def test_a_token_that_was_renewed_leaves_the_server_as_it_is(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "") as codex:
        await codex.say()
        write_login(codex.login, mark="renewed", expires_in=999_999)
        await codex.say()
        assert codex.starts() == 1
