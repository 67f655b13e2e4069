"""The program that misbehaves (hostile.py) as Claude Code, Codex or the Gemini CLI, whichever PROTOCOL says: lines on stdin and stdout."""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from tests.contracts.hostile import answer, begin


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


def main() -> None:
    if "--version" in sys.argv:
        print("codex-cli 0.169.0")
        return
    begin()
    {"claude": claude, "codex": codex, "gemini": gemini}[os.environ["PROTOCOL"]]()
