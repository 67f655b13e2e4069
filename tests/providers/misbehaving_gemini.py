"""A program that speaks the Gemini CLI's ACP and misbehaves as MODE says, in ways that only that protocol knows (for the others
see tests/contracts/hostile.py). Started as a real process; standard library only.

It notes every line that it is sent in the file NOTES.
"""

import json
import os
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


def ask(method: str) -> Any:
    """Asks the client for something and returns what it says."""
    say(id=900, method=method, params={})
    while (message := hear()).get("id") != 900:
        pass
    return message.get("result", message.get("error"))


def misbehave(session: str) -> None:
    match MODE:
        case "says nothing":
            sys.stderr.write("Attempt 1 failed with status 503. Retrying with backoff...\n")
            hear()
            sys.exit(0)
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


serve()
