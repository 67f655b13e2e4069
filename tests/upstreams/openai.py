"""A stand-in of the OpenAI Responses API as Codex uses it: `POST …/responses` answered over SSE, the token refresh, and
`GET …/wham/usage`, the state of the quota for nothing.

Modes (through the control door; the defaults are those of a good answer):

    text          the answer; cut into words, one delta each                 echo      answer with the last user text instead
    deltas        the very deltas, instead of `text`                         reasoning deltas of a reasoning summary before it
    pause_ms      between two deltas                                         silent_ms before the first byte
    status        an HTTP status with `body` (JSON or text) and `headers`    error     {"code", "message"}: response.failed in the stream
    end           "completed", "incomplete" (with `reason`), "cut", "none" (no end mark), "stall", "html"
    cut_after     the number of deltas after which "cut", "none" and "stall" happen
    tool          the name of a function the model calls before it answers (once per conversation)
    used          [primary, secondary] percent for the x-codex-* headers, null for none; usage_status of the look at them
    accept        the only access token that is not answered with a 401      refresh   the new access token, or an error code
"""

import json
import re
import time
from typing import Any

from tests.upstreams.loopback import Exchange, StandIn

RESETS_IN_SECONDS = (7_200, 300_000)
GOOD = {"text": "Hello from the stand-in.", "end": "completed", "used": [12, 34], "status": 200, "cut_after": 2}


def quota_headers(used: list[int] | None) -> dict[str, str]:
    """What the ChatGPT back end tells about the two windows of a plan."""
    if used is None:
        return {}
    headers = {"x-codex-plan-type": "plus", "x-codex-active-limit": "codex"}
    for name, percent, minutes, seconds in zip(
        ("primary", "secondary"), used, (300, 10_080), RESETS_IN_SECONDS, strict=True
    ):
        headers[f"x-codex-{name}-used-percent"] = str(percent)
        headers[f"x-codex-{name}-window-minutes"] = str(minutes)
        headers[f"x-codex-{name}-reset-after-seconds"] = str(seconds)
        headers[f"x-codex-{name}-reset-at"] = str(int(time.time()) + seconds)
    return headers


def usage_of(used: list[int]) -> dict[str, Any]:
    """The same of the two windows, for whoever only asks."""
    windows = {
        f"{name}_window": {
            "used_percent": percent,
            "limit_window_seconds": minutes * 60,
            "reset_after_seconds": seconds,
            "reset_at": int(time.time()) + seconds,
        }
        for name, percent, minutes, seconds in zip(
            ("primary", "secondary"), used, (300, 10_080), RESETS_IN_SECONDS, strict=True
        )
    }
    return {"plan_type": "plus", "rate_limit": {"allowed": True, "limit_reached": max(used) >= 100, **windows}}


def last_user_text(body: dict[str, Any]) -> str:
    for item in reversed(body.get("input", [])):
        if item.get("role") == "user":
            return "".join(part.get("text", "") for part in item["content"])
    return ""


class Answer:
    """One streamed answer: the events of the Responses API, numbered."""

    def __init__(self, exchange: Exchange, number: int, model: str):
        self.exchange, self.number, self.events = exchange, number, 0
        self.response = {"id": f"resp_{number}", "object": "response", "model": model, "output": []}
        self.output: list[dict[str, Any]] = []

    def event(self, kind: str, **fields: Any) -> None:
        data = json.dumps({"type": kind, "sequence_number": self.events, **fields}, ensure_ascii=False)
        self.events += 1
        self.exchange.write(f"event: {kind}\ndata: {data}\n\n".encode())

    def item(self, item: dict[str, Any], empty: dict[str, Any]) -> int:
        """Announces an item and returns its index."""
        self.output.append(item)
        index = len(self.output) - 1
        self.event("response.output_item.added", output_index=index, item={**item, **empty})
        return index

    def done(self, index: int) -> None:
        self.event("response.output_item.done", output_index=index, item=self.output[index])

    def reason(self, deltas: list[str]) -> None:
        text, key = "".join(deltas), f"rs_{self.number}"
        summary = [{"type": "summary_text", "text": text}]
        index = self.item({"id": key, "type": "reasoning", "summary": summary}, {"summary": []})
        place = {"item_id": key, "output_index": index, "summary_index": 0}
        self.event("response.reasoning_summary_part.added", **place, part={"type": "summary_text", "text": ""})
        for delta in deltas:
            self.event("response.reasoning_summary_text.delta", **place, delta=delta)
        self.event("response.reasoning_summary_text.done", **place, text=text)
        self.done(index)

    def call(self, name: str) -> None:
        item = {"id": f"fc_{self.number}", "type": "function_call", "call_id": f"call_{self.number}", "name": name}
        self.done(self.item({**item, "arguments": "{}", "status": "completed"}, {"arguments": ""}))

    def finish(self, kind: str, **fields: Any) -> None:
        told = {"input_tokens": 40, "input_tokens_details": {"cached_tokens": 13}, "total_tokens": 51}
        usage = {**told, "output_tokens": 11, "output_tokens_details": {"reasoning_tokens": 2}}
        status = kind.removeprefix("response.")
        self.event(kind, response={**self.response, "status": status, "output": self.output, "usage": usage, **fields})


class OpenAI(StandIn):
    """A loopback stand-in of OpenAI for Codex."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0

    def respond(self, exchange: Exchange) -> None:
        if exchange.method == "POST" and exchange.path == "/oauth/token":
            self.refresh(exchange)
        elif exchange.method == "POST" and exchange.path.endswith("/responses"):
            self.responses(exchange, {**GOOD, **self.modes})
        elif exchange.method == "GET" and exchange.path.endswith("/wham/usage"):
            exchange.reply(self.modes.get("usage_status", 200), usage_of({**GOOD, **self.modes}["used"]))
        else:
            exchange.reply(404, {"error": {"message": "There is nothing here.", "type": "invalid_request_error"}})

    def refresh(self, exchange: Exchange) -> None:
        new = self.modes.get("refresh", "refresh_token_reused")
        if new.startswith("refresh_token_"):
            exchange.reply(401, {"error": {"message": "This refresh token is spent.", "code": new}})
        else:
            exchange.reply(200, {"access_token": new, "id_token": new, "refresh_token": "refresh-2"})

    def responses(self, exchange: Exchange, mode: dict[str, Any]) -> None:
        if mode.get("silent_ms"):
            exchange.pause(mode["silent_ms"] / 1000)
        accepted = mode.get("accept")
        if accepted is not None and exchange.headers.get("authorization") != f"Bearer {accepted}":
            exchange.reply(401, {"error": {"message": "This token is not valid.", "code": "invalid_api_key"}})
            return
        if mode["status"] != 200:
            body = mode.get("body", {"error": {"message": f"a {mode['status']}", "type": "server_error"}})
            headers = {**quota_headers(mode.get("failed_used")), **mode.get("headers", {})}
            exchange.reply(mode["status"], body.encode() if isinstance(body, str) else body, headers)
            return
        if mode["end"] == "html":
            exchange.reply(200, b"<html>Sign in to this network</html>", kind="text/html")
            return
        with self.lock:
            self.answers += 1
            number = self.answers
        exchange.start(200, {"content-type": "text/event-stream", **quota_headers(mode["used"])})
        self.stream(exchange, Answer(exchange, number, exchange.json().get("model", "")), mode)

    def stream(self, exchange: Exchange, answer: Answer, mode: dict[str, Any]) -> None:
        answer.event("response.created", response={**answer.response, "status": "in_progress"})
        if "error" in mode:
            answer.event("response.failed", response={**answer.response, "status": "failed", "error": mode["error"]})
            return
        if mode.get("reasoning"):
            answer.reason(mode["reasoning"])
        if mode.get("tool") and not any(item["type"].endswith("_output") for item in exchange.json()["input"]):
            answer.call(mode["tool"])
        elif not self.speak(exchange, answer, mode):
            return
        if mode["end"] == "incomplete":
            answer.finish("response.incomplete", incomplete_details={"reason": mode.get("reason", "max_output_tokens")})
        elif mode["end"] != "none":
            answer.finish("response.completed")

    def speak(self, exchange: Exchange, answer: Answer, mode: dict[str, Any]) -> bool:
        """The message itself. False when the connection is gone after it."""
        text = last_user_text(exchange.json()) if mode.get("echo") else mode["text"]
        deltas = mode.get("deltas") or re.findall(r"\S+\s*|\s+", text)
        whole, key = "".join(deltas), f"msg_{answer.number}"
        content = [{"type": "output_text", "text": whole, "annotations": []}]
        message = {"id": key, "type": "message", "role": "assistant", "status": "completed", "content": content}
        index = answer.item(message, {"content": [], "status": "in_progress"})
        place = {"item_id": key, "output_index": index, "content_index": 0}
        for spoken, delta in enumerate(deltas):
            if spoken == mode["cut_after"] and mode["end"] in ("cut", "stall"):
                if mode["end"] == "stall":
                    exchange.pause(600)
                exchange.cut()
                return False
            if spoken and mode.get("pause_ms"):
                exchange.pause(mode["pause_ms"] / 1000)
            answer.event("response.output_text.delta", **place, delta=delta)
        answer.event("response.output_text.done", **place, text=whole)
        answer.done(index)
        return True


if __name__ == "__main__":
    OpenAI().main()
