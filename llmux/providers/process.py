"""Runs a provider's CLI: the only place that starts processes.

Every process gets its own session and process group, a minimal environment, an empty working directory, pipes that are
always drained, bounded lines, and an end: SIGTERM to the group, a bounded wait, SIGKILL to the group. It dies with the
gateway (PR_SET_PDEATHSIG on Linux). Arguments are constant templates: nothing of a prompt reaches them.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from llmux.config import Limits
from llmux.failures import Kind, ProviderFailure

READ_BYTES = 65_536
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Runs between fork and exec: the kernel kills the child when the thread that started it ends."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _spawn(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> "subprocess.Popen[bytes]":
    """Starts the program from trio's own thread, about 1 ms.

    Not through trio.lowlevel.open_process: that forks in a worker thread, and the parent-death signal fires when that thread
    ends, which trio lets it do after 10 s of idleness. The child would die young.
    """
    return subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


def _taken_over(popen: "subprocess.Popen[bytes]") -> list[trio.lowlevel.FdStream]:
    """The pipes to stdin, stdout and stderr, all three, or OSError (no descriptor is free) and none."""
    pipes = [pipe for pipe in (popen.stdin, popen.stdout, popen.stderr) if pipe is not None]
    descriptors: list[int] = []
    try:
        for pipe in pipes:
            with pipe:
                descriptors.append(os.dup(pipe.fileno()))
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        for pipe in pipes:
            pipe.close()
        raise
    return [trio.lowlevel.FdStream(descriptor) for descriptor in descriptors]


async def _exited(popen: "subprocess.Popen[bytes]") -> int:
    """Waits until the process has ended and reaps it."""
    if popen.poll() is None:
        try:
            pidfd = os.pidfd_open(popen.pid)
        except (AttributeError, OSError):  # no Linux: a thread has to wait
            return await trio.to_thread.run_sync(popen.wait, abandon_on_cancel=True)
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)
    else:
        await trio.lowlevel.checkpoint()
    return popen.wait()


def in_terminal(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> int:
    """Runs a program on our own terminal, in front of the person that sits there, and returns its exit status (negative: a signal).

    Until it ends it gets what is typed, Ctrl-C included. Raises ProviderFailure(UNAVAILABLE) when it cannot be started.
    """
    before = signal.signal(signal.SIGINT, lambda number, frame: None)  # unlike SIG_IGN, the child does not inherit that
    try:
        return subprocess.Popen(list(argv), env=dict(env), cwd=cwd, preexec_fn=_die_with_parent).wait()
    except OSError as error:
        raise ProviderFailure(
            Kind.UNAVAILABLE, f"'{argv[0]}' cannot be started: {error.strerror}.", evidence="process.spawn"
        ) from None
    finally:
        signal.signal(signal.SIGINT, before)


class LineTooLong(Exception):
    """A line on stdout is longer than `line_bytes_max`."""


class Process:
    """A running CLI that speaks lines. Made by `running`, which also ends it.

    `send(line)` writes one line; `lines()` yields stdout's lines as bytes without the newline and ends at end of file;
    `stderr_tail` holds the last bytes of stderr (memory only: it can hold a prompt).
    """

    def __init__(self, popen: "subprocess.Popen[bytes]", limits: Limits):
        self._popen = popen
        self._stdin, self._stdout, self._stderr = _taken_over(popen)
        self._limits = limits
        self._sending = trio.Lock()
        self._buffer = bytearray()
        self.stderr_tail = bytearray()
        self.stderr_closed = trio.Event()

    def __repr__(self) -> str:
        state = "running" if self.exit_status is None else f"ended with {self.exit_status}"
        return f"<Process {self.pid} {state}>"

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for a signal, or None while it runs."""
        return self._popen.poll()

    @property
    def memory_bytes(self) -> int | None:
        """How much memory it occupies now (its resident set), or None where nobody tells (no Linux, or it has ended)."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return None
        return int(pages) * PAGE_BYTES

    async def send(self, line: bytes) -> None:
        """Writes `line` and a newline. Raises ProviderFailure(CRASHED) when the process no longer reads."""
        async with self._sending:
            try:
                await self._stdin.send_all(line + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise ProviderFailure(
                    Kind.CRASHED, "The provider's program closed its input.", evidence="process.stdin_closed"
                ) from None

    def send_now(self, line: bytes) -> bool:
        """Writes `line` and a newline at once, without giving way to any other task. False: nothing of it was written, because
        the line is long, another one is being written, the pipe is full, or nobody reads it any more."""
        whole = line + b"\n"
        if len(whole) > select.PIPE_BUF or self._sending.locked():  # a pipe takes so much as a whole or not at all
            return False
        try:
            os.write(self._stdin.fileno(), whole)
        except OSError:
            return False
        return True

    async def close_stdin(self) -> None:
        """Tells the process that no more input will come."""
        await self._stdin.aclose()

    async def line(self) -> bytes | None:
        """The next line of stdout without its newline, or None at the end. Raises LineTooLong. One reader at a time."""
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return line
            if len(self._buffer) > self._limits.line_bytes_max:
                raise LineTooLong
            searched = len(self._buffer)
            data = await self._more()
            if not data:
                rest = bytes(self._buffer)
                self._buffer.clear()
                return rest or None
            self._buffer += data

    async def _more(self) -> bytes:
        """More of stdout, b"" at its end: read as soon as it is there (`receive_some` of the stream lets other tasks go first)."""
        while True:
            try:
                await trio.lowlevel.wait_readable(self._stdout.fileno())
                return os.read(self._stdout.fileno(), READ_BYTES)
            except BlockingIOError:
                continue
            except (OSError, ValueError, trio.ClosedResourceError):  # closed, by us or by the program
                return b""

    async def wait(self) -> int:
        """Waits for the end and returns the exit status."""
        return await _exited(self._popen)

    async def _drain_stderr(self) -> None:
        try:
            async for data in self._stderr:
                self.stderr_tail += data
                del self.stderr_tail[: -self._limits.stderr_tail_bytes_max]
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.stderr_closed.set()

    async def _end_children_with_it(self) -> None:
        """A child that outlives the program would hold its pipes open: whoever reads them would never learn of the end."""
        await self.wait()
        signal_group(self.pid, signal.SIGKILL)

    async def end(self) -> None:
        """SIGTERM to the group, a bounded wait, SIGKILL to the group; returns when the process is reaped. Not cancellable."""
        with trio.CancelScope(shield=True):
            if self.exit_status is None:
                signal_group(self.pid, signal.SIGTERM)
                with trio.move_on_after(self._limits.stop_ms_max / 1000):
                    await self.wait()
            signal_group(self.pid, signal.SIGKILL)  # also what the leader left behind
            await self.wait()

    async def close(self) -> None:
        """Closes the pipes. Not cancellable."""
        with trio.CancelScope(shield=True):
            for stream in (self._stdin, self._stdout, self._stderr):
                await stream.aclose()


def signal_group(pid: int, number: signal.Signals) -> bool:
    """Sends a signal to the process group that `pid` leads. False when nobody is left in it."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


async def _started(argv: Sequence[str], env: Mapping[str, str], cwd: Path, limits: Limits) -> Process:
    """A process that runs and can be spoken to. Raises OSError, and then there is none."""
    popen = _spawn(argv, env, cwd)
    try:
        return Process(popen, limits)
    except OSError:
        signal_group(popen.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await _exited(popen)
        raise


@asynccontextmanager
async def running(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, limits: Limits
) -> AsyncGenerator[Process, None]:
    """Starts a program and ends it, with all its children, when the block is left. Raises ProviderFailure(UNAVAILABLE)."""
    try:
        process = await _started(argv, env, cwd, limits)
    except OSError as error:
        raise ProviderFailure(
            Kind.UNAVAILABLE, f"The provider's program cannot be started: {error.strerror}.", evidence="process.spawn"
        ) from None
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process._drain_stderr)
            nursery.start_soon(process._end_children_with_it)
            try:
                yield process
            except BaseException as error:  # raised again below, outside the nursery that would wrap it in a group
                raised = error
            nursery.cancel_scope.cancel()
    finally:
        await process.end()
        await process.close()
    if raised is not None:
        raise raised
