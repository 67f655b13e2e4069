"""A provider's program that misbehaves, the same way in each provider's protocol. Started as a real process; standard library only.

The file HOSTILE holds how. It is read when the program starts and again before every answer, so it can learn to behave.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
    """A child that holds our stdout and stderr, and ignores SIGTERM. Its number stands in HOSTILE.child."""
    child = subprocess.Popen([sys.executable, "-IS", "-c", CHILD], stdin=subprocess.DEVNULL)
    Path(os.environ["HOSTILE"] + ".child").write_text(str(child.pid))


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


# --- over stdin and stdout -----------------------------------------------------------------------------------------


def say(message: dict[str, Any]) -> None:
    Stdio.write(json.dumps(message).encode() + b"\n")


def heard() -> Iterator[dict[str, Any]]:
    for line in sys.stdin.buffer:
        yield dict(json.loads(line))


class Stdio:
    """A voice that speaks lines on stdout."""

    def line(self, **message: Any) -> bytes:
        return json.dumps(message).encode() + b"\n"

    @staticmethod
    def write(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def linger(self) -> None:
        time.sleep(600)


class Claude(Stdio):
    def event(self, kind: str, **fields: Any) -> bytes:
        return self.line(type="stream_event", event={"type": kind, **fields}, parent_tool_use_id=None)

    def text(self, words: str) -> bytes:
        return self.event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})

    def end(self) -> bytes:
        stop = self.event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
        return stop + self.line(type="result", subtype="success", is_error=False)

    def error(self) -> bytes:
        said = {"model": "<synthetic>", "content": [{"type": "text", "text": "You've hit your limit"}]}
        result = {"subtype": "success", "is_error": True, "api_error_status": 429, "result": "You've hit your limit"}
        return self.line(type="assistant", error="rate_limit", message=said) + self.line(type="result", **result)

    def shapes(self) -> list[Any]:
        return [
            {"type": 7},
            {"type": "stream_event", "event": 7},
            {"type": "stream_event", "event": {"type": "content_block_delta", "delta": [7]}},
            {"type": "rate_limit_event", "rate_limit_info": [1, 2]},
            {"type": "system", "subtype": "init", "tools": 7},
        ]


def claude() -> None:
    for line in heard():
        if line["type"] == "control_request":
            say(
                {
                    "type": "control_response",
                    "response": {"subtype": "success", "request_id": line["request_id"]},
                }
            )
        else:
            answer(Claude())


class Codex(Stdio):
    def __init__(self, thread: str):
        self.thread = thread

    def tell(self, method: str, **params: Any) -> bytes:
        return self.line(method=method, params={"threadId": self.thread, "turnId": "u1", **params})

    def text(self, words: str) -> bytes:
        return self.tell("item/agentMessage/delta", delta=words)

    def end(self) -> bytes:
        return self.tell("turn/completed", turn={"id": "u1", "status": "completed", "error": None, "items": []})

    def error(self) -> bytes:
        failed = {"message": "You've hit your limit", "codexErrorInfo": "rateLimitExceeded"}
        return self.tell("turn/completed", turn={"id": "u1", "status": "failed", "error": failed, "items": []})

    def shapes(self) -> list[Any]:
        return [
            {"id": 999, "result": {}},
            {"id": [], "result": 1},
            {"method": 7},
            {"method": "item/agentMessage/delta", "params": {"threadId": [self.thread], "delta": "wrong"}},
            {"method": "item/agentMessage/delta", "params": {"threadId": self.thread, "delta": 7}},
            {"method": "item/agentMessage/delta", "params": {"threadId": "another", "delta": "wrong"}},
            {"method": "item/started", "params": {"threadId": self.thread, "item": 7}},
        ]


def codex() -> None:
    threads = 0
    for line in heard():
        method, results = line.get("method"), {"thread/start": {"thread": {"id": "root"}, "model": "m"}}
        if method is None or "id" not in line:
            continue
        if method == "thread/fork":
            threads += 1
            results[method] = {"thread": {"id": f"t{threads}"}, "model": "m"}
        say({"id": line["id"], "result": {"turn": {"id": "u1"}} if method == "turn/start" else results.get(method, {})})
        if method == "turn/start":
            answer(Codex(line["params"]["threadId"]))


class Gemini(Stdio):
    def __init__(self, number: int):
        self.number = number

    def update(self, session: str, change: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": change}}

    def text(self, words: str) -> bytes:
        content = {"type": "text", "text": words}
        return self.line(**self.update("s1", {"sessionUpdate": "agent_message_chunk", "content": content}))

    def end(self) -> bytes:
        count = {"token_count": {"input_tokens": 3, "output_tokens": 2}, "model_usage": []}
        result = {"stopReason": "end_turn", "_meta": {"quota": count}}
        return self.line(jsonrpc="2.0", id=self.number, result=result)

    def error(self) -> bytes:
        return self.line(jsonrpc="2.0", id=self.number, error={"code": 429, "message": "You've hit your limit"})

    def shapes(self) -> list[Any]:
        return [
            {"method": "session/update", "params": [1, 2]},
            self.update("s1", "x"),
            self.update("s1", {"sessionUpdate": 7, "content": 7}),
            {"method": 5},
            self.update(
                "another", {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "wrong"}}
            ),
        ]


def gemini() -> None:
    results = {"initialize": {"protocolVersion": 1}, "session/new": {"sessionId": "s1"}}
    for line in heard():
        if line.get("method") in results:
            say({"jsonrpc": "2.0", "id": line["id"], "result": results[line["method"]]})
        elif line.get("method") == "session/prompt":
            answer(Gemini(line["id"]))


if __name__ == "__main__":
    if "--version" in sys.argv:
        print("codex-cli 0.169.0")
        sys.exit()
    begin()
    {"claude": claude, "codex": codex, "gemini": gemini}[os.environ["PROTOCOL"]]()
