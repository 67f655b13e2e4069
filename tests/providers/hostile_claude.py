"""A program that speaks Claude Code's protocol and misbehaves as HOSTILE says, in ways that only that protocol knows (for the
others see tests/contracts/hostile.py). Started as a real process; standard library only.

It notes its argument vector and the names of its environment in the file HOSTILE_NOTES, when that is set.
"""

import json
import os
import sys
import time
from typing import Any

MODE = os.environ.get("HOSTILE", "ok")


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say(**line: Any) -> None:
    write(json.dumps(line).encode() + b"\n")


def event(kind: str, **fields: Any) -> None:
    say(type="stream_event", event={"type": kind, **fields}, parent_tool_use_id=None)


def text(words: str) -> None:
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})


def start() -> None:
    event("message_start", message={"model": "made-up", "usage": {"input_tokens": 3, "output_tokens": 1}})


def stop(reason: str = "end_turn") -> None:
    event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 2})


def linger() -> None:
    time.sleep(600)


def answer() -> None:
    """What follows the last user line."""
    start()
    match MODE:
        case "dies":
            text("half an ans")
            sys.exit(3)
        case "silent":
            pass
        case "stalls":
            text("Hello")
        case "can be interrupted":
            text("Hello")
            return
        case _:
            text("Hello")
            stop()
            say(
                type="rate_limit_event",
                rate_limit_info={"status": "allowed", "rateLimitType": "five_hour", "resetsAt": 9},
            )
            say(type="result", subtype="success", is_error=False)
    linger()


def main() -> None:
    if notes := os.environ.get("HOSTILE_NOTES"):
        with open(notes, "w") as file:
            json.dump({"argv": sys.argv[1:], "environ": sorted(os.environ), "cwd": os.getcwd()}, file)
    if sys.argv[1:] == ["--version"]:
        print(os.environ.get("HOSTILE_VERSION", "2.1.197 (Claude Code)"))
        return
    if sys.argv[1:] == ["auth", "status"]:
        print(os.environ.get("HOSTILE_STATUS", '{"loggedIn": true}'))
        return
    if MODE == "dies at once":
        sys.exit(7)
    for raw in sys.stdin.buffer:
        line = json.loads(raw)
        if line["type"] == "control_request" and line["request_id"] == "ping":
            if MODE != "mute":
                say(
                    type="control_response", response={"subtype": "error", "request_id": "ping", "error": "Unsupported"}
                )
            if MODE == "dies waiting":
                sys.exit(9)
            if MODE == "deaf after a while" and not os.path.exists(os.environ["HOSTILE_ONCE"]):
                open(os.environ["HOSTILE_ONCE"], "w").close()
                linger()
        elif line["type"] == "control_request":
            if line["request"]["subtype"] == "interrupt":
                open(os.environ["HOSTILE_ONCE"], "w").close()
            if MODE == "closes its input":
                os.close(0)
            good = MODE != "refuses settings"
            response = {"subtype": "success" if good else "error", "request_id": line["request_id"]}
            say(type="control_response", response=response)
            if MODE == "closes its input":
                linger()
        elif line["type"] == "user" and line.get("shouldQuery") is False:
            say(type="result", subtype="success", is_error=False, num_turns=0)
        elif line["type"] == "user":
            answer()


main()
