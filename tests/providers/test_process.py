"""Processes of CLIs: their pipes, their bounds, and above all their end."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from llmux.config import Limits
from llmux.failures import Kind, ProviderFailure
from llmux.providers.process import LineTooLong, running
from llmux.providers.programs import output_of
from tests.providers.hearing import descendants

ENV = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
LIMITS = Limits(stop_ms_max=200)
LOYAL = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PARENT = f"""
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE)
    child.stdout.readline()
    print(child.pid, flush=True)
    time.sleep(60)
"""


def program(source: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(source)]


def alive(pid: int) -> bool:
    """Whether the process still runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int) -> None:
    with trio.fail_after(10):
        while alive(pid):
            await trio.sleep(0.01)


async def test_lines_go_in_and_come_out(tmp_path):
    async with running(program(LOYAL), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
        for word in (b"abc", b"", "äö".encode()):
            await process.send(word)
            assert await process.line() == word.decode()[::-1].encode()
        await process.close_stdin()
        assert await process.line() is None
        assert await process.wait() == 0
        assert repr(process) == f"<Process {process.pid} ended with 0>"


async def test_a_last_line_without_newline_is_a_line(tmp_path):
    async with running(program("print('a\\nb', end='')"), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
        assert [await process.line() for _ in range(3)] == [b"a", b"b", None]


async def test_a_character_split_between_writes_comes_out_whole(tmp_path):
    source = "import os, time\nfor byte in '東京\\n'.encode(): os.write(1, bytes([byte])); time.sleep(0.005)"
    async with running(program(source), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
        assert (await process.line()).decode() == "東京"


async def test_leaving_the_block_ends_the_process_and_its_children_even_those_that_ignore_term(tmp_path):
    async with running(program(PARENT), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
        child = int(await process.line())
        assert alive(child)
    assert process.exit_status == -signal.SIGTERM
    await gone(child)


async def test_a_process_that_ignores_term_is_killed_after_its_time(tmp_path):
    async with running(program(STUBBORN), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
        assert await process.line() == b"up"
    assert process.exit_status == -signal.SIGKILL


async def test_cancelling_ends_the_process_too(tmp_path):
    with trio.CancelScope() as scope:
        async with running(program(PARENT), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
            child = int(await process.line())
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert process.exit_status == -signal.SIGTERM
    await gone(child)


async def test_children_of_a_process_that_ended_by_itself_are_ended_as_well(tmp_path):
    source = PARENT.replace("time.sleep(60)\n", "sys.exit(3)\n")
    async with running(program(source), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
        child = int(await process.line())
        assert await process.wait() == 3
        assert alive(child)
    await gone(child)


async def test_the_output_of_a_process_ends_with_it_though_a_child_still_holds_the_pipe(tmp_path):
    source = f"""
        import subprocess, sys
        print("last words", flush=True)
        subprocess.Popen([sys.executable, "-c", {CHILD!r}])
    """
    with trio.fail_after(20):
        async with running(program(source), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
            assert await process.line() == b"last words"
            while await process.line() is not None:
                pass
            assert process.exit_status == 0


async def test_a_line_that_never_ends_is_bounded(tmp_path):
    source = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    limits = Limits(line_bytes_max=1_000_000, stop_ms_max=200)
    async with running(program(source), env=ENV, cwd=tmp_path, limits=limits) as process:
        with pytest.raises(LineTooLong):
            await process.line()
        assert len(process._buffer) < 1_200_000


async def test_stderr_is_drained_and_only_its_tail_is_kept(tmp_path):
    """A process that nobody's reading blocks once its pipe is full."""
    source = "import sys\nsys.stderr.write('x' * 3_000_000 + 'the end')\nsys.stderr.flush()\nprint('done')"
    limits = Limits(stderr_tail_bytes_max=1000)
    async with running(program(source), env=ENV, cwd=tmp_path, limits=limits) as process:
        assert await process.line() == b"done"
        await process.stderr_closed.wait()
        assert len(process.stderr_tail) == 1000
        assert process.stderr_tail.endswith(b"the end")


async def test_an_exception_in_the_block_comes_out_plain(tmp_path):
    with pytest.raises(ZeroDivisionError):
        async with running(program(LOYAL), env=ENV, cwd=tmp_path, limits=LIMITS):
            raise ZeroDivisionError
    assert not [name for name in descendants().values() if "python" in name]


async def test_writing_to_a_process_that_has_ended_is_a_crash(tmp_path):
    async with running(program("pass"), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
        await process.wait()
        with pytest.raises(ProviderFailure) as caught:
            await process.send(b"x" * 1_000_000)
    assert caught.value.kind is Kind.CRASHED


async def test_a_short_line_is_written_at_once_and_nothing_of_any_other(tmp_path):
    async with running(program("import time; time.sleep(60)"), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
        assert not process.send_now(b"x" * 5_000), "a pipe may take only a part of it"
        lines = 0
        while process.send_now(b"x" * 999):
            lines += 1
        assert lines > 1, "until the pipe is full"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.send, b"x" * 100_000)
            await trio.testing.wait_all_tasks_blocked()
            assert not process.send_now(b""), "it would stand in the middle of the other"
            nursery.cancel_scope.cancel()


async def test_a_line_said_at_once_is_whole(tmp_path):
    async with running(program(LOYAL), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
        assert process.send_now(b"abc")
        assert await process.line() == b"cba"
        await process.close_stdin()
        assert not process.send_now(b"nobody reads it")


async def test_a_program_that_cannot_be_started_is_unavailable(tmp_path):
    with pytest.raises(ProviderFailure) as caught:
        async with running([str(tmp_path / "nothing")], env=ENV, cwd=tmp_path, limits=LIMITS):
            pytest.fail("it started")
    assert caught.value.kind is Kind.UNAVAILABLE


async def test_it_leads_a_group_and_a_session_of_its_own_in_the_directory_it_was_given(tmp_path):
    source = "import os; print(os.getpid() == os.getpgid(0) == os.getsid(0), os.getcwd())"
    status, output = await output_of(program(source), env=ENV, cwd=tmp_path, limits=LIMITS)
    assert (status, output.decode().strip()) == (0, f"True {tmp_path}")


async def test_it_outlives_the_idle_time_of_worker_threads(tmp_path, monkeypatch):
    """The parent-death signal comes when the thread that forked ends: a worker thread's idleness must not kill a CLI."""
    monkeypatch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.05)
    async with running(program(LOYAL), env=ENV, cwd=tmp_path, limits=LIMITS) as process:
        await trio.to_thread.run_sync(time.sleep, 0.01)
        await trio.sleep(0.5)  # the worker threads are gone by now
        await process.send(b"still here")
        assert await process.line() == b"ereh llits"


GATEWAY = """
    import sys, trio
    from pathlib import Path
    from llmux.config import Limits
    from llmux.providers.process import running

    async def main():
        argv = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"]
        async with running(argv, env={}, cwd=Path("/"), limits=Limits()) as process:
            print(process.pid, flush=True)
            await trio.sleep_forever()

    trio.run(main)
"""


async def test_it_dies_with_the_gateway_even_when_that_is_killed():
    gateway = subprocess.Popen(program(GATEWAY), stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    with gateway:
        child = int(gateway.stdout.readline())
        assert alive(child)
        gateway.kill()
    await gone(child)


async def test_fifty_runs_leave_no_descriptor_and_no_process_behind(tmp_path):
    async def once(number: int) -> None:
        with trio.move_on_after(0.01 * (number % 3)):
            async with running(["/bin/cat"], env=ENV, cwd=tmp_path, limits=LIMITS) as process:
                await process.send(b"x")
                await process.line()

    await once(5)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        await once(number)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [pid for pid, name in descendants().items() if name == "cat"]


@pytest.mark.parametrize("free", [0, 1, 2])
async def test_a_process_whose_pipes_find_no_descriptor_is_ended_and_reaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    files = len(os.listdir("/proc/self/fd"))
    real, left = os.dup, [None] * free

    def dup(descriptor: int) -> int:
        if not left:
            raise OSError(errno.EMFILE, "Too many open files")
        left.pop()
        return real(descriptor)

    monkeypatch.setattr(os, "dup", dup)
    with pytest.raises(ProviderFailure) as caught:
        async with running(program(STUBBORN), env=ENV, cwd=tmp_path, limits=LIMITS):
            raise AssertionError
    assert (caught.value.kind, caught.value.evidence) == (Kind.UNAVAILABLE, "process.spawn")
    assert descendants() == {}
    assert len(os.listdir("/proc/self/fd")) == files
