"""A stand-in of Anthropic's Messages API: what Claude Code needs of it, and the ways in which it goes wrong.

`POST /v1/messages` answers as the modes say; every other path is 404 (and in the log). With --certificates it is also the host
where logins are renewed and subscriptions tell their use. Modes, all set through `/_ctl`:

    mode        ok (default), echo, thinking, json, hallucinated, empty, refusal, silent_refusal, max_tokens, stop_sequence,
                a key of ERRORS, html, and for streams that end badly: cut, cut_first, ends, error_event, stall, hang
    times       the mode holds for that many calls, then "ok"
    text        the answer; `pieces` its deltas (default: word by word); `object` the answer of mode json, in two deltas
    usage       overrides of the usage in message_start; `output_tokens` of the usage in message_delta
    slice_bytes writes the stream in slices of that many bytes, in the midst of characters
    pause_s     seconds between deltas; `resets_in_s`, `claim`, `utilization`, `retry_after_s` for the limits
    warning     the good answer's headers say that the limit is near
    login       "revoked": no login is renewed
    used        what the subscription has used: {"five_hour": percent, ...}; without it that is not told
"""

import json
import re
import time
import uuid
from typing import Any

from tests.upstreams.loopback import Exchange, StandIn

HOSTS = ("api.anthropic.com", "platform.claude.com", "claude.ai", "console.anthropic.com")
ERRORS: dict[str, tuple[int, str, str]] = {
    "400": (400, "invalid_request_error", "messages.0.content: made up by the stand-in"),
    "too_long": (400, "invalid_request_error", "prompt is too long: 212345 tokens > 200000 maximum"),
    "credit": (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    "401": (401, "authentication_error", "OAuth token has expired."),
    "403": (403, "permission_error", "OAuth token has been revoked. Please obtain a new token."),
    "404": (404, "not_found_error", "model: unknown"),
    "413": (413, "request_too_large", "Request exceeds the maximum size"),
    "429": (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    "429_plan": (429, "rate_limit_error", "This request would exceed your account's rate limit."),
    "500": (500, "api_error", "Internal server error"),
    "529": (529, "overloaded_error", "Overloaded"),
}
STOPS = {
    "max_tokens": "max_tokens",
    "refusal": "refusal",
    "silent_refusal": "refusal",
    "stop_sequence": "stop_sequence",
    "json": "tool_use",
    "hallucinated": "tool_use",
}
HALF = ("cut", "ends", "error_event", "stall")
"""Modes that stop after the first half of the deltas."""

Block = tuple[dict[str, Any], list[dict[str, Any]]]
"""A content block as it starts, and its deltas."""


def asked(body: dict[str, Any]) -> str:
    """The last text of the last user message."""
    content = next(message["content"] for message in reversed(body["messages"]) if message["role"] == "user")
    texts = [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]
    return texts[-1] if texts else ""


class Anthropic(StandIn):
    """A stand-in of Anthropic's Messages API."""

    hosts = HOSTS

    def respond(self, exchange: Exchange) -> None:
        if exchange.path == "/api/oauth/usage" and "used" in self.modes:
            windows = self.modes["used"].items()
            resets_at = "2030-01-01T00:00:00.123456+00:00"
            exchange.reply(200, {name: {"utilization": share, "resets_at": resets_at} for name, share in windows})
            return
        if exchange.path == "/v1/oauth/token" and self.modes.get("login") == "revoked":
            exchange.reply(400, {"error": "invalid_grant", "error_description": "Refresh token not found or invalid"})
            return
        if exchange.path == "/v1/oauth/token":
            login = {
                "access_token": "sk-ant-oat01-renewed",
                "refresh_token": "sk-ant-ort01-renewed",
                "expires_in": 28800,
            }
            exchange.reply(200, {**login, "token_type": "Bearer", "scope": "user:inference user:profile"})
            return
        if exchange.method != "POST" or exchange.path != "/v1/messages":
            exchange.reply(404, {"type": "error", "error": {"type": "not_found_error", "message": "Not found"}})
            return
        modes = self._taken()
        mode = modes.get("mode", "ok")
        exchange.record["mode"] = mode
        if mode == "hang":
            exchange.pause(600)
        elif mode == "html":
            exchange.reply(200, b"<html>a proxy speaks</html>", kind="text/html")
        elif mode in ERRORS:
            self._refuse(exchange, mode, modes)
        else:
            self._stream(exchange, mode, modes)

    def _taken(self) -> dict[str, Any]:
        with self.lock:
            modes = dict(self.modes)
            if "times" in self.modes:
                self.modes["times"] -= 1
                if self.modes["times"] <= 0:
                    self.modes = {}
        return modes

    def _refuse(self, exchange: Exchange, mode: str, modes: dict[str, Any]) -> None:
        status, kind, message = ERRORS[mode]
        headers = {"retry-after": str(modes["retry_after_s"])} if "retry_after_s" in modes else {}
        if mode == "429_plan":
            headers |= _limits("rejected", modes) | {"x-should-retry": "false"}
        exchange.reply(status, {"type": "error", "error": {"type": kind, "message": message}}, headers)

    # --- a stream --------------------------------------------------------------------------------------------------

    def _stream(self, exchange: Exchange, mode: str, modes: dict[str, Any]) -> None:
        body = exchange.json()
        headers = {"content-type": "text/event-stream; charset=utf-8"}
        if exchange.headers.get("authorization", "").startswith("Bearer sk-ant-oat"):
            headers |= _limits("allowed_warning" if modes.get("warning") else "allowed", modes)
        exchange.start(200, headers)
        blocks = _blocks(mode, modes, body)
        usage = {
            "input_tokens": 11,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,
            **modes.get("usage", {}),
        }
        message = {"id": f"msg_{uuid.uuid4().hex[:24]}", "type": "message", "role": "assistant", "content": []}
        events = Events(exchange, modes)
        events.send(
            "message_start",
            message={**message, "model": body["model"], "stop_reason": None, "stop_sequence": None, "usage": usage},
        )
        if mode == "cut_first":
            exchange.cut()
            return
        for index, (start, deltas) in enumerate(blocks):
            events.send("content_block_start", index=index, content_block=start)
            shown = deltas[: len(deltas) // 2] if mode in HALF else deltas
            for delta in shown:
                events.send("content_block_delta", index=index, delta=delta)
                exchange.pause(modes["pause_s"]) if modes.get("pause_s") else None
            if mode in HALF:
                self._break(exchange, events, mode)
                return
            events.send("content_block_stop", index=index)
        stop = STOPS.get(mode, "end_turn")
        stopped = (body.get("stop_sequences") or ["STOP"])[0] if stop == "stop_sequence" else None
        used = {"output_tokens": modes.get("output_tokens", 7)}
        events.send("message_delta", delta={"stop_reason": stop, "stop_sequence": stopped}, usage=used)
        events.send("message_stop")

    def _break(self, exchange: Exchange, events: "Events", mode: str) -> None:
        if mode == "cut":
            exchange.pause(0.05)  # what is on its way arrives first
            exchange.cut()
        elif mode == "error_event":
            events.send("error", error={"type": "overloaded_error", "message": "Overloaded"})
        elif mode == "stall":
            exchange.pause(600)


class Events:
    """Writes server-sent events, in one piece each or in slices."""

    def __init__(self, exchange: Exchange, modes: dict[str, Any]):
        self._exchange, self._slice = exchange, int(modes.get("slice_bytes", 0))

    def send(self, kind: str, **payload: Any) -> None:
        text = json.dumps({"type": kind, **payload}, ensure_ascii=False)
        data = f"event: {kind}\ndata: {text}\n\n".encode()
        for start in range(0, len(data), self._slice or len(data)):
            self._exchange.write(data[start : start + (self._slice or len(data))])
            if self._slice:
                time.sleep(0.0005)


def _blocks(mode: str, modes: dict[str, Any], body: dict[str, Any]) -> list[Block]:
    if mode in ("empty", "silent_refusal"):
        return []
    if mode == "json":
        text = json.dumps(modes.get("object", {"made": "up"}), ensure_ascii=False)
        return [_tool("StructuredOutput", [text[: len(text) // 2], text[len(text) // 2 :]])]
    if mode == "hallucinated":
        return [_tool("Bash", ['{"command": "id"}'])]
    text = asked(body) if mode == "echo" else modes.get("text", "Hello from the stand-in.")
    pieces = modes.get("pieces") or re.findall(r"\s*\S+\s*", text) or [text]
    blocks: list[Block] = [({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces])]
    if mode == "thinking":
        thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in ("Let me ", "think.")]
        signature = {"type": "signature_delta", "signature": "c2lnbmVk"}
        blocks.insert(0, ({"type": "thinking", "thinking": "", "signature": ""}, [*thoughts, signature]))
    return blocks


def _tool(name: str, pieces: list[str]) -> Block:
    start = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:20]}", "name": name, "input": {}}
    return start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def _limits(status: str, modes: dict[str, Any]) -> dict[str, str]:
    """The headers that tell a subscription how much of its plan is used."""
    claim = modes.get("claim", "five_hour")
    resets = str(modes.get("resets_at_s") or int(time.time()) + int(modes.get("resets_in_s", 3600)))
    used = modes.get("utilization", {"rejected": 1.0, "allowed_warning": 0.91}.get(status, 0.12))
    prefix, short = "anthropic-ratelimit-unified", "5h" if claim == "five_hour" else "7d"
    headers = {
        f"{prefix}-status": status,
        f"{prefix}-reset": resets,
        f"{prefix}-representative-claim": claim,
        f"{prefix}-{short}-status": status,
        f"{prefix}-{short}-reset": resets,
        f"{prefix}-{short}-utilization": str(used),
    }
    return headers | ({f"{prefix}-{short}-surpassed-threshold": "0.9"} if status == "allowed_warning" else {})


if __name__ == "__main__":
    Anthropic().main()
