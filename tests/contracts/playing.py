"""Plays a recording: a program that says what the real CLI once said, to whoever asks. Standard library only.

PROTOCOL is claude, codex or gemini, RECORDING the file. Where the recording ends without its protocol's end, so does this program;
where a file *.stderr lies beside it, it stays silent, and says that on stderr when it is told to end.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORDING = Path(os.environ["RECORDING"])
LINES = RECORDING.read_bytes().splitlines(keepends=True)
KILLED = 143


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say(message: dict[str, Any]) -> None:
    write(json.dumps(message).encode() + b"\n")


def heard() -> Iterator[dict[str, Any]]:
    """What the gateway says, until it closes our stdin."""
    for line in sys.stdin.buffer:
        yield dict(json.loads(line))


def claude() -> None:
    """Replies to settings come when they are asked for, results of past turns at once, all the rest after the last turn."""
    messages = [json.loads(line) for line in LINES]
    replies = {m["response"]["request_id"]: m for m in messages if m["type"] == "control_response"}
    rest = [m for m in messages if m["type"] != "control_response"]
    for line in heard():
        if line["type"] == "control_request":
            number = line["request_id"]
            granted = {"type": "control_response", "response": {"subtype": "success", "request_id": number}}
            say(replies.get(number, granted))
        elif line["type"] == "user" and line.get("shouldQuery") is False:
            while rest[0]["type"] != "result":
                say(rest.pop(0))
            say(rest.pop(0))
        elif line["type"] == "user":
            for message in rest:
                say(message)
            if rest[-1]["type"] != "result":
                sys.exit(KILLED)


def codex() -> None:
    """The handshake and the thread are granted; the recorded turn follows, in the recorded thread."""
    messages = [json.loads(line) for line in LINES]
    thread = next(m["params"]["threadId"] for m in messages if "threadId" in m["params"])
    turn = next((m["params"]["turn"]["id"] for m in messages if "turn" in m["params"]), "u1")
    replies = {
        "thread/start": {"thread": {"id": "root"}, "model": "gpt-5.2-codex"},
        "thread/fork": {"thread": {"id": thread}, "model": "gpt-5.2-codex"},
        "turn/start": {"turn": {"id": turn}},
    }
    for line in heard():
        if "id" in line and "method" in line:
            say({"id": line["id"], "result": replies.get(line["method"], {})})
        if line.get("method") == "turn/start":
            write(b"".join(LINES))
            if not any(m.get("method") == "turn/completed" for m in messages):
                sys.exit(KILLED)


def gemini() -> None:
    """Lines up to each reply, whenever a request comes; set_model, which no recording holds, is simply granted.

    A prompt that was met with silence is replied to when it is cancelled.
    """
    session, asked, prompt, silent = "", "", None, RECORDING.with_suffix(".stderr").exists()
    for request in heard():
        method = request.get("method")
        if method == "session/set_model":
            say({"jsonrpc": "2.0", "id": request["id"], "result": {}})
            continue
        prompt = request.get("id", prompt)
        if method == "session/load":
            asked = request["params"]["sessionId"]
        if method == "session/prompt" and silent:
            continue
        if method == "session/cancel":  # a notification: it is the prompt that is answered
            request = {"id": prompt}
        while LINES:
            try:
                message = json.loads(LINES[0])
            except ValueError:
                write(LINES.pop(0))
                continue
            session = session or message.get("params", {}).get("sessionId", "")
            if "id" in message:
                message["id"] = request["id"]
            raw = json.dumps(message).encode()
            write((raw.replace(session.encode(), asked.encode()) if session and asked else raw) + b"\n")
            LINES.pop(0)
            if "id" in message:
                break
        if method == "session/load":  # the rest of the replayed history comes after the reply
            while b"available_commands_update" not in LINES[0]:
                write(LINES.pop(0).replace(session.encode(), asked.encode()))
            write(LINES.pop(0).replace(session.encode(), asked.encode()))
    if silent:
        sys.stderr.buffer.write(RECORDING.with_suffix(".stderr").read_bytes())


def main() -> None:
    {"claude": claude, "codex": codex, "gemini": gemini}[os.environ["PROTOCOL"]]()
