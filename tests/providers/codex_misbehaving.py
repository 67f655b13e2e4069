"""A program that speaks like `codex app-server` and misbehaves as its first argument-like variable HOW says. Run by tests only.

Every line it is told is appended to the file named by HEARD, and every start to HEARD.starts.
"""

import json
import os
import sys
import time
from typing import Any

HOW, HEARD = os.environ.get("HOW", ""), os.environ["HEARD"]
TURNS = 0
MEMORY: list[bytes] = []


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def tell(method: str, thread: str, **params: Any) -> None:
    write(json.dumps({"method": method, "params": {"threadId": thread, "turnId": "u1", **params}}) + "\n")


def reply(message: dict[str, Any], result: Any) -> None:
    write(json.dumps({"id": message["id"], "result": result}) + "\n")


def end(thread: str, status: str = "completed", **error: Any) -> None:
    tell("turn/completed", thread, turn={"id": "u1", "status": status, "error": error or None, "items": []})


def grow() -> None:
    """Occupies 60 MB more."""
    MEMORY.append(b"x" * 60_000_000)


def turn(thread: str) -> None:
    """What follows a turn/start."""
    global TURNS
    TURNS += 1
    if HOW == "grows":
        grow()
    if HOW in ("calls-a-tool", "ends-wordless"):
        used = {"totalTokens": 9, "inputTokens": 5, "outputTokens": 4, "cachedInputTokens": 0}
        tell("thread/tokenUsage/updated", thread, tokenUsage={"total": used})
        if HOW == "ends-wordless":
            reason = "Incomplete response returned, reason: content_filter"
            end(thread, "failed", message=reason, codexErrorInfo="other")
        return
    if HOW == "compacts":
        tell("item/started", thread, item={"type": "contextCompaction"})
        return
    if HOW == "retries":
        tell("item/agentMessage/delta", thread, delta="once ")
        tell("error", thread, willRetry=True, error={"message": "Reconnecting", "codexErrorInfo": "other"})
        tell("item/agentMessage/delta", thread, delta="once ")
        return
    if HOW == "holds" and not os.path.exists(HEARD + ".held"):
        open(HEARD + ".held", "w").close()
        tell("item/agentMessage/delta", thread, delta="at last a ")
        while not os.path.exists(HEARD + ".go"):
            time.sleep(0.005)
    if HOW == "stands-still":
        tell("item/agentMessage/delta", thread, delta="word ")
        return
    if HOW == "logged-out" and not os.path.exists(HEARD + ".login"):
        open(HEARD + ".login", "w").close()
        end(thread, "failed", message="spent", codexErrorInfo="unauthorized")
        return
    if HOW == "asks":
        write(
            json.dumps({"id": "q1", "method": "item/commandExecution/requestApproval", "params": {"threadId": thread}})
            + "\n"
        )
        write(json.dumps({"id": "q2", "method": "account/chatgptAuthTokens/refresh", "params": {}}) + "\n")
    for word in ("good ", "answer"):
        tell("item/agentMessage/delta", thread, delta=word)
    end(thread)


def main() -> None:
    if "--version" in sys.argv:
        print({"old": "codex-cli 0.92.0", "nameless": "hello"}.get(HOW, "codex-cli 0.169.0"))
        return
    with open(HEARD + ".starts", "a") as starts:
        starts.write(f"{os.getpid()}\n")
    if HOW == "exits":
        sys.exit(1)
    threads = 0
    for line in sys.stdin:
        with open(HEARD, "a") as heard:
            heard.write(line)
        message = json.loads(line)
        method, params = message.get("method"), message.get("params", {})
        if method is None or "id" not in message or HOW == "mute":
            continue
        if HOW == "refuses" and method != "initialize":
            write(json.dumps({"id": message["id"], "error": {"code": -32600, "message": "unknown variant"}}) + "\n")
        elif method == "thread/start":
            reply(message, {"thread": {"id": "root"}, "model": "m"})
        elif method == "thread/fork":
            while HOW == "slow-thread" and not os.path.exists(HEARD + ".go"):
                time.sleep(0.005)
            threads += 1
            thread = f"t{threads}-{os.getpid()}"
            reply(message, {"thread": {}} if HOW == "nameless-thread" else {"thread": {"id": thread}, "model": "m"})
        elif method == "turn/start":
            reply(message, {"turn": {"id": "u1"}})
            turn(params["threadId"])
        elif method == "turn/interrupt" and HOW == "stands-still":
            continue  # deaf for it
        else:
            reply(message, {})
            if method == "turn/interrupt" and HOW == "calls-a-tool":
                end(params["threadId"], "interrupted")


main()
