"""A server in Ollama's place that misbehaves as tests/contracts/hostile.py does. Every connection is a process of its own,
so that it can crash and be killed; the listening one starts no other and outlives them.
"""

import argparse
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from tests.contracts import hostile

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


class Voice:
    """Says lines in the body of a chunked answer."""

    def __init__(self, connection: socket.socket):
        self.connection = connection

    def write(self, data: bytes) -> None:
        self.connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def line(self, **fields: Any) -> bytes:
        return json.dumps({"model": "tiny", **fields}).encode() + b"\n"

    def text(self, words: str) -> bytes:
        return self.line(message={"role": "assistant", "content": words}, done=False)

    def end(self) -> bytes:
        return self.line(message={"role": "assistant", "content": ""}, done=True, done_reason="stop")

    def error(self) -> bytes:
        return json.dumps({"error": "You've hit your limit"}).encode() + b"\n"

    def shapes(self) -> list[Any]:
        return [{"message": 7}, {"message": {"content": 7}}, {"done": "yes"}]

    def linger(self) -> None:
        """Until the other side leaves."""
        while self.connection.recv(65_536):
            pass
        sys.exit(0)


def requests(connection: socket.socket) -> Any:
    """The paths that are asked for, one by one."""
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            data = connection.recv(65_536)
            if not data:
                return
            buffer += data
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        length = int(lengths[0]) if lengths else 0
        while len(buffer) < length:
            buffer += connection.recv(65_536)
        buffer = buffer[length:]
        yield head.split(b" ", 2)[1]


def serve(connection: socket.socket) -> None:
    """One connection, to its end."""
    if hostile.mode() == "mute":
        Voice(connection).linger()
    hostile.begin()
    for path in requests(connection):
        if path == b"/api/chat":
            connection.sendall(HEAD)
            hostile.answer(Voice(connection))
            connection.sendall(b"0\r\n\r\n")
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--hostile", required=True)
    arguments = parser.parse_args()
    os.environ["HOSTILE"] = arguments.hostile
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.create_server(("127.0.0.1", arguments.port)) as listening:
        print(f"LISTENING {listening.getsockname()[1]}", flush=True)
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                with suppress(OSError):  # the other side has left
                    serve(connection)
                return
            connection.close()


if __name__ == "__main__":
    main()
