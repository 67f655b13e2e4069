"""How a provider's program misbehaves, the same way in each provider's protocol. Standard library only: it runs in that program.

The file HOSTILE holds how. It is read when the program starts and again before every answer, so it can learn to behave.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

GIBIBYTE = 1 << 30
CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class Voice(Protocol):
    """How a provider says something within one answer."""

    def write(self, data: bytes) -> None: ...

    def text(self, words: str) -> bytes: ...

    def end(self) -> bytes: ...

    def error(self) -> bytes:
        """An error whose text looks like an answer."""

    def shapes(self) -> list[Any]:
        """Messages of the protocol with values of wrong types in them."""

    def linger(self) -> None:
        """Does nothing any more, whatever is asked."""


def mode() -> str:
    return Path(os.environ["HOSTILE"]).read_text("utf-8")


def begin() -> None:
    """What happens before anything is asked."""
    match mode():
        case "crash before start":
            sys.exit(7)
        case "mute":
            time.sleep(600)
        case "ignores TERM":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def fork() -> None:
    """A child that holds our stdout and stderr, and ignores SIGTERM."""
    subprocess.Popen([sys.executable, "-IS", "-c", CHILD], stdin=subprocess.DEVNULL)


def answer(voice: Voice) -> None:
    """One answer, good where the mode has no other end. The file HOSTILE.asked says that it was asked for."""
    how = mode()
    Path(os.environ["HOSTILE"] + ".asked").touch()
    if how in NOISES:
        voice.write(NOISES[how])
    ENDS.get(how, well)(voice)


def well(voice: Voice) -> None:
    voice.write(voice.text("good ") + voice.text("answer") + voice.end())


NOISES = {
    "prose": b"Warning: something happened\n",
    "invalid UTF-8": b'{"type":"\xff\xfe","method":"\xff"}\n',
    "ANSI": b"\x1b[2J\x1b[31m{}\x1b[0m\n",
    "NULs": b"\0\0\0\0\n",
    "a bare number": b"42\n",
    "deeply nested JSON": b"[" * 100_000 + b"\n",
}
"""Lines that are no message of anybody's protocol."""


def crash(voice: Voice) -> None:
    voice.write(voice.text("half an ans"))
    sys.exit(3)


def killed(voice: Voice) -> None:
    voice.write(voice.text("half an ans"))
    os.kill(os.getpid(), signal.SIGKILL)


def half_a_line(voice: Voice) -> None:
    line = voice.text("and never the rest")
    voice.write(voice.text("half an ans") + line[: len(line) // 2])
    sys.exit(0)


def crash_and_leave_a_child(voice: Voice) -> None:
    fork()
    crash(voice)


def stall(voice: Voice) -> None:
    voice.write(voice.text("so "))
    voice.linger()


def stall_with_a_child(voice: Voice) -> None:
    fork()
    stall(voice)


def line_without_an_end(voice: Voice) -> None:
    for _ in range(GIBIBYTE // 65_536):
        voice.write(b"x" * 65_536)
    voice.linger()


def answer_without_an_end(voice: Voice) -> None:
    piece = voice.text("x" * 10_000) * 10
    while True:
        voice.write(piece)


def answer_without_an_end_letter_by_letter(voice: Voice) -> None:
    piece = voice.text("x") * 1_000
    while True:
        voice.write(piece)


def loud(voice: Voice) -> None:
    for _ in range(1_000):
        sys.stderr.write("prompt " * 9_000)
    well(voice)


def wrong_shapes(voice: Voice) -> None:
    for message in voice.shapes():
        voice.write(json.dumps(message).encode() + b"\n")
    well(voice)


def error(voice: Voice) -> None:
    voice.write(voice.error())


def goes_on(voice: Voice) -> None:
    voice.write(voice.text("good answer") + voice.end() + voice.text(" and more") + voice.end())


def exits_after_it(voice: Voice) -> None:
    voice.write(voice.text("good answer") + voice.end())
    sys.exit(1)


ENDS: dict[str, Callable[[Voice], None]] = {
    "crash in the midst": crash,
    "killed in the midst": killed,
    "half a line": half_a_line,
    "crash that leaves a child": crash_and_leave_a_child,
    "hang": lambda voice: voice.linger(),
    "stall": stall,
    "ignores TERM": stall,
    "stall with a child": stall_with_a_child,
    "line without an end": line_without_an_end,
    "answer without an end": answer_without_an_end,
    "letters without an end": answer_without_an_end_letter_by_letter,
    "loud stderr": loud,
    "wrong shapes": wrong_shapes,
    "error as an answer": error,
    "goes on after the end": goes_on,
    "exits after the end": exits_after_it,
}
