"""A program that speaks the Gemini CLI's ACP and misbehaves as MODE says. Started as a real process; standard library only.

It notes every line that it is sent in the file NOTES. In the mode `replay` it says what the file RECORDING holds: the stdout of a
real Gemini CLI, reply by reply, with the ids and the session of whoever asks.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODE = os.environ.get("MODE", "ok")
DIALOG = b"\x1b[?1049h\x1b[2JPlease visit the following URL to authorize the application:\n\nhttps://localhost/\n\nEnter the code: "


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say(**message: Any) -> None:
    write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def hear() -> dict[str, Any]:
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit(0)
    with Path(os.environ["NOTES"]).open("ab") as notes:
        notes.write(line)
    return dict(json.loads(line))


def update(session: str, text: str, kind: str = "agent_message_chunk") -> None:
    say(
        method="session/update",
        params={"sessionId": session, "update": {"sessionUpdate": kind, "content": {"type": "text", "text": text}}},
    )


def linger() -> None:
    while True:
        time.sleep(600)


def begin() -> None:
    """What happens before the handshake."""
    match MODE:
        case "login dialog":
            write(DIALOG)
            while hear():
                pass
        case "garbage":
            write(b"Hello! I am no JSON.\n")
        case "mute":
            linger()
        case "exit 41":
            sys.exit(41)
        case "exit 1":
            sys.exit(1)
        case "deaf to SIGTERM":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "leaves a child":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def ask(method: str) -> Any:
    """Asks the client for something and returns what it says."""
    say(id=900, method=method, params={})
    while (message := hear()).get("id") != 900:
        pass
    return message.get("result", message.get("error"))


def misbehave(session: str) -> None:
    match MODE:
        case "dies":
            update(session, "half an ans")
            sys.exit(3)
        case "half a line":
            write(b'{"jsonrpc":"2.0","method":"session/upd')
            sys.exit(0)
        case "prose":
            write(b"Warning: something happened\n")
        case "not utf-8":
            write(b'{"jsonrpc":"2.0","x":"\xff\xfe"}\n')
        case "a number":
            write(b"42\n")
        case "deeply nested":
            write(b"[" * 100_000 + b"\n")
        case "endless line":
            while True:
                write(b"x" * 65_536)
        case "endless answer":
            while True:
                update(session, "x" * 10_000)
        case "stalls" | "deaf to SIGTERM" | "leaves a child":
            update(session, "so ")
            linger()
        case "says nothing":
            sys.stderr.write("Attempt 1 failed with status 503. Retrying with backoff...\n")
            hear()
            sys.exit(0)
        case "wrong shapes":
            say(method="session/update", params=[1, 2])
            say(method="session/update", params={"sessionId": session, "update": "x"})
            say(method="session/update", params={"sessionId": session, "update": {"sessionUpdate": 7, "content": 7}})
            say(method=5)
            update("another-session", "not mine")
        case "asks":
            update(session, json.dumps([ask("session/request_permission"), ask("fs/read_text_file")["code"]]))


def serve() -> None:
    begin()
    while message := hear():
        number, method = message.get("id"), message.get("method")
        if method == "initialize":
            say(id=number, result={"protocolVersion": 1})
            if MODE == "dies when ready":
                sys.exit(0)
        elif method == "session/new":
            say(id=number, result={"sessionId": "s1"})
        elif method == "session/prompt":
            misbehave("s1")
            update("s1", "".join(block.get("text", "") for block in message["params"]["prompt"]))
            count = {"token_count": {"input_tokens": 3, "output_tokens": 2}, "model_usage": []}
            say(id=number, result={"stopReason": "end_turn", "_meta": {"quota": count}})


def replay() -> None:
    """Lines up to each reply, whenever a request comes; set_model, which no recording holds, is simply granted."""
    lines = Path(os.environ["RECORDING"]).read_bytes().splitlines(keepends=True)
    session, asked = "", ""
    while True:
        request = hear()
        if request.get("method") == "session/load":
            asked = request["params"]["sessionId"]
        if request.get("method") == "session/set_model":
            say(id=request["id"], result={})
            continue
        while lines:
            try:
                message = json.loads(lines[0])
            except ValueError:
                write(lines.pop(0))
                continue
            session = session or message.get("params", {}).get("sessionId", "")
            if "id" in message:
                message["id"] = request["id"]
            raw = json.dumps(message).encode()
            write((raw.replace(session.encode(), asked.encode()) if session and asked else raw) + b"\n")
            lines.pop(0)
            if "id" in message:
                break
        if request.get("method") == "session/load":  # the rest of the replayed history comes after the reply
            while b"available_commands_update" not in lines[0]:
                write(lines.pop(0).replace(session.encode(), asked.encode()))
            write(lines.pop(0).replace(session.encode(), asked.encode()))


if MODE == "replay":
    replay()
serve()
