"""A stand-in for an Ollama server, for what a real one does only when something is wrong.

Modes, set by POST /_ctl {"mode": …} for the chats that follow:

    ok           answers `text` in `chunks` lines (after the lines of `thinking`), then the line with done:true
    echo         answers the last message's text
    refuse       `status` and `error` (a text: {"error": text}; {"raw": text}: that text as text/plain), with `headers`
    hang         takes the request and sends nothing
    stall        half the lines, then nothing
    cut          half the lines, then the connection is reset
    no_done      all lines but the last, ended in good order
    error_line   half the lines, then {"error": `error`}
    garbage      a line that is not JSON after the first
    long_line    one line of `size` bytes that does not end
    disconnect   the connection is closed before any answer
    linger       a good answer whose body never ends

`write_bytes` splits every answer into writes of that size (0: a line each); `counts`: false leaves the token counts out; `last`
holds fields of the last line that differ ("done_reason"); `gap_ms` pauses between lines; `load_ms` before the first byte;
/api/embed knows ok and refuse: it answers `vectors`, or, of each text, its length, 0.5 and -1.25.

`models`, `loaded`, `version`, `show` are what the other doors answer.
"""

import json
import time
from typing import Any

from tests.upstreams.loopback import Exchange, StandIn

DEFAULTS: dict[str, Any] = {
    "mode": "ok",
    "text": "The sky is blue.",
    "chunks": 4,
    "thinking": [],
    "status": 500,
    "error": "it went wrong",
    "headers": {},
    "size": 1_000_000,
    "write_bytes": 0,
    "counts": True,
    "last": {},
    "gap_ms": 0,
    "load_ms": 0,
    "vectors": [],
    "models": ["tiny:latest"],
    "loaded": ["tiny:latest"],
    "version": "0.9.3",
    "show": {
        "parameters": "num_ctx 4096",
        "model_info": {"llama.context_length": 8192},
        "capabilities": ["completion"],
    },
}
FOREVER_SECONDS = 60


class Ollama(StandIn):
    """A stand-in for an Ollama server."""

    def mode(self, name: str) -> Any:
        return self.modes.get(name, DEFAULTS[name])

    def respond(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case "GET", "/api/version":
                exchange.reply(200, {"version": self.mode("version")})
            case "GET", "/api/tags":
                names = self.mode("models")
                exchange.reply(200, {"models": [{"name": n, "model": n, "size": 1, "digest": f"d-{n}"} for n in names]})
            case "GET", "/api/ps":
                names = self.mode("loaded")
                exchange.reply(200, {"models": [{"name": n, "model": n, "size_vram": 1} for n in names]})
            case "POST", "/api/show":
                found = exchange.json().get("model") in [*self.mode("models"), "tiny"]
                exchange.reply(*(200, self.mode("show")) if found else (404, {"error": "model 'x' not found"}))
            case "POST", "/api/embed":
                self.embed(exchange, exchange.json())
            case "POST", "/api/chat":
                self.chat(exchange, exchange.json())
            case _:
                exchange.reply(404, b"404 page not found", kind="text/plain")

    def chat(self, exchange: Exchange, asked: dict[str, Any]) -> None:
        mode = self.mode("mode")
        time.sleep(self.mode("load_ms") / 1000)
        if mode == "refuse":
            self.refuse(exchange)
        elif mode == "hang":
            exchange.pause(FOREVER_SECONDS)
        elif mode == "disconnect":
            exchange.cut()
        else:
            exchange.start(200, {"content-type": "application/x-ndjson", "transfer-encoding": "chunked"})
            self.stream(exchange, asked, mode)

    def embed(self, exchange: Exchange, asked: dict[str, Any]) -> None:
        if self.mode("mode") == "refuse":
            return self.refuse(exchange)
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        vectors = self.mode("vectors") or [[float(len(text)), 0.5, -1.25] for text in texts]
        whole = {"model": asked["model"], "embeddings": vectors, "total_duration": 9, "load_duration": 1}
        exchange.reply(200, {**whole, **({"prompt_eval_count": 7} if self.mode("counts") else {})})
        return None

    def refuse(self, exchange: Exchange) -> None:
        error = self.mode("error")
        raw = error["raw"].encode() if isinstance(error, dict) else None
        kind = "text/plain" if raw is not None else "application/json; charset=utf-8"
        exchange.reply(self.mode("status"), raw or {"error": error}, self.mode("headers"), kind)

    def stream(self, exchange: Exchange, asked: dict[str, Any], mode: str) -> None:
        text = asked["messages"][-1]["content"] if mode == "echo" else self.mode("text")
        count = max(1, min(self.mode("chunks"), len(text)))
        pieces = [text[i * len(text) // count : (i + 1) * len(text) // count] for i in range(count)]
        lines = [self.line(asked, thinking=thought) for thought in self.mode("thinking")]
        lines += [self.line(asked, content=piece) for piece in pieces if piece]
        if mode in ("cut", "stall", "error_line"):
            lines = lines[: max(1, len(lines) // 2)]
        if mode == "garbage":
            lines.insert(1, b"<html>502 Bad Gateway</html>\n")
        if mode == "error_line":
            lines.append(json.dumps({"error": self.mode("error")}).encode() + b"\n")
        if mode == "long_line":
            lines.append(b'{"message":"' + b"x" * self.mode("size"))
        if mode in ("ok", "echo", "linger"):
            lines.append(self.last(asked, len(pieces)))
        for line in lines:
            self.write(exchange, line)
            if self.mode("gap_ms"):
                exchange.pause(self.mode("gap_ms") / 1000)
        if mode == "cut":
            exchange.cut()
        elif mode in ("stall", "linger"):
            exchange.pause(FOREVER_SECONDS)
        else:
            exchange.write(b"0\r\n\r\n")

    def line(self, asked: dict[str, Any], **message: str) -> bytes:
        said = {"role": "assistant", "content": "", **message}
        whole = {"model": asked["model"], "created_at": "2026-01-01T00:00:00Z", "message": said, "done": False}
        return json.dumps(whole, ensure_ascii=False).encode() + b"\n"

    def last(self, asked: dict[str, Any], pieces: int) -> bytes:
        counts = {"prompt_eval_count": 7, "eval_count": pieces} if self.mode("counts") else {}
        said = {"role": "assistant", "content": ""}
        whole = {
            "model": asked["model"],
            "message": said,
            "done_reason": "stop",
            "done": True,
            **counts,
            **self.mode("last"),
        }
        return json.dumps(whole).encode() + b"\n"

    def write(self, exchange: Exchange, data: bytes) -> None:
        size = self.mode("write_bytes") or len(data)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            exchange.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if size < len(data):
                time.sleep(0.001)  # so that the pieces are read one by one


if __name__ == "__main__":
    Ollama().main()
