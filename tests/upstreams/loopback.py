"""What every stand-in shares: a threaded HTTP server on 127.0.0.1 with a control door, a log of requests and an orderly end.

A stand-in subclasses `StandIn` and implements `respond(exchange)`. It prints `LISTENING <port>` once it takes connections and
ends on SIGTERM or when the process that started it ends. Doors of the control plane:

    POST /_ctl {"mode": "429", ...}   sets the modes for the requests that follow (merged into what is set)
    GET  /_log                        the requests seen since the last reset, as JSON:
                                      [{method, path, host, headers, body, closed_early, arrived_ns, spoke_ns, closed_ns}]
    POST /_reset                      forgets modes and log

Moments are those of the system's monotonic clock: when the first line of the request was there, when the first byte of the
answer's body was written, and when it was noticed that the client had closed its end early.

One with `hosts` takes `--certificates FOLDER`: it prints `CA <file>` and `PROXY <port>` too, and is an HTTPS proxy then:
HTTPS_PROXY=http://127.0.0.1:<port> and NODE_EXTRA_CA_CERTS=<file> bring the hosts here that a CLI has built in (`host`).
"""

import argparse
import json
import signal
import socket
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit


class Exchange:
    """One request and the connection to answer it on."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: bytes, record: dict[str, Any]):
        self.handler, self.body, self.record = handler, body, record
        self.method, self.path = handler.command, urlsplit(handler.path).path
        self.query, self.headers = urlsplit(handler.path).query, handler.headers

    def json(self) -> Any:
        """The body as JSON, {} when it is empty."""
        return json.loads(self.body or b"{}")

    def reply(
        self, status: int, payload: Any, headers: dict[str, str] | None = None, kind: str = "application/json"
    ) -> None:
        """One whole answer. `payload` is bytes, or anything that JSON can hold."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.start(status, {"content-type": kind, "content-length": str(len(data)), **(headers or {})})
        self.write(data)

    def start(self, status: int, headers: dict[str, str]) -> None:
        """Status line and headers. Without content-length (or transfer-encoding) the body ends with the connection."""
        self.handler.send_response_only(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        if not {"content-length", "transfer-encoding"} & {name.lower() for name in headers}:
            self.handler.send_header("connection", "close")
            self.handler.close_connection = True
        self.handler.end_headers()

    def write(self, data: bytes) -> None:
        """More of the body. Raises BrokenPipeError or ConnectionResetError when the client has gone."""
        self.record.setdefault("spoke_ns", time.monotonic_ns())
        self.handler.wfile.write(data)
        self.handler.wfile.flush()

    def cut(self) -> None:
        """Ends the connection with a reset, in the midst of whatever was going on."""
        connection = self.handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.handler.close_connection = True
        connection.close()

    def pause(self, seconds: float) -> None:
        """Waits, and raises ConnectionResetError as soon as the client closes its end meanwhile."""
        connection = self.handler.connection
        connection.settimeout(seconds)
        try:
            if connection.recv(1, socket.MSG_PEEK) == b"":
                raise ConnectionResetError("the client has gone")
            threading.Event().wait(seconds)  # it sent more: just wait
        except TimeoutError:
            pass
        finally:
            connection.settimeout(None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that resets its connection between two requests is no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class StandIn:
    """A server with modes and a log. Subclass it, implement `respond`, and call `main()`."""

    hosts: ClassVar[tuple[str, ...]] = ()
    """the hosts that it has certificates for, when it is told to be a proxy"""

    def __init__(self) -> None:
        self.modes: dict[str, Any] = {}
        self.log: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def respond(self, exchange: Exchange) -> None:
        """Answers one request that is not for the control plane."""
        raise NotImplementedError

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds options of its own."""

    def prepare(self, options: argparse.Namespace) -> None:
        """Called once before LISTENING is printed."""

    def _control(self, exchange: Exchange) -> bool:
        if exchange.path == "/_log":
            with self.lock:
                exchange.reply(200, self.log)
        elif exchange.path == "/_ctl":
            self.modes |= exchange.json()
            exchange.reply(200, self.modes)
        elif exchange.path == "/_reset":
            with self.lock:
                self.modes, self.log = {}, []
            exchange.reply(200, {})
        else:
            return False
        return True

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Reads the body, serves the control plane, logs everything else and passes it to `respond`."""
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        record = {
            "method": handler.command,
            "path": handler.path,
            "host": getattr(handler, "tunnel", ""),
            "headers": {name.lower(): value for name, value in handler.headers.items()},
            "body": body.decode("utf-8", "replace"),
            "closed_early": False,
            "arrived_ns": getattr(handler, "arrived_ns", 0),
        }
        exchange = Exchange(handler, body, record)
        if self._control(exchange):
            return
        with self.lock:
            self.log.append(record)
        try:
            self.respond(exchange)
        except (BrokenPipeError, ConnectionResetError):
            record |= {"closed_early": True, "closed_ns": time.monotonic_ns()}
            handler.close_connection = True

    def server(self, port: int) -> ThreadingHTTPServer:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def parse_request(self) -> bool:
                self.arrived_ns = time.monotonic_ns()
                return super().parse_request()

            def _any(self) -> None:
                stand_in.handle(self)

            do_GET = do_POST = do_HEAD = do_DELETE = do_PUT = _any

            def log_message(self, format: str, *args: object) -> None:
                pass

        return _Server(("127.0.0.1", port), Handler)

    def _tunnel(self, folder: Path) -> None:
        import trustme  # only here: its import costs 0.2 s

        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*self.hosts).configure_cert(context)
        proxy = self.server(0)
        proxy.RequestHandlerClass = _tunnelling(proxy.RequestHandlerClass, context)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        print(f"CA {folder / 'ca.pem'}\nPROXY {proxy.server_address[1]}", flush=True)

    def main(self) -> None:
        """Runs the program."""
        parser = argparse.ArgumentParser(description=type(self).__doc__)
        parser.add_argument("--port", type=int, default=0)
        self.arguments(parser)
        if self.hosts:
            sentence = "a folder: also be an HTTPS proxy, with certificates made here"
            parser.add_argument("--certificates", type=Path, help=sentence)
        options = parser.parse_args()
        server = self.server(options.port)
        self.prepare(options)
        if self.hosts and options.certificates is not None:
            self._tunnel(options.certificates)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print(f"LISTENING {server.server_address[1]}", flush=True)
        server.serve_forever()


def _tunnelling(handler: type, context: ssl.SSLContext) -> type:
    """The handler class, able to be a proxy: CONNECT begins TLS with a certificate of our own, and the same doors serve it."""

    class Tunnel(handler):  # type: ignore[misc, valid-type]
        tunnel = ""

        def do_CONNECT(self) -> None:
            self.send_response_only(200)
            self.end_headers()
            self.tunnel = self.path
            try:
                self.connection = context.wrap_socket(self.connection, server_side=True)
            except OSError:  # the client does not trust us, or has gone
                self.close_connection = True
                return
            self.rfile = self.connection.makefile("rb", -1)
            self.wfile = self.connection.makefile("wb", 0)
            self.close_connection = False

    return Tunnel
