"""A local HTTP server that serves files, and fails as a test tells it to."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeServer(ThreadingHTTPServer):
    """Serves `files`; every request takes the next of `faults`, or else `always`.

    A fault is a status (int), "cut" (half of the body under the whole length), "no range",
    "no if-range", "html", "chunked" (length unknown, no ranges) or "slow" (a little at a
    time); several can come together.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.versions: dict[str, str] = {}
        self.faults: list[set[int | str]] = []
        self.always: set[int | str] = set()
        self.retry_after = ""
        self.requests: list[tuple[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        pass  # a client that is killed


class Handler(BaseHTTPRequestHandler):
    server: FakeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host, name = self.server, self.path.lstrip("/")
        self.close_connection = True
        wanted = self.headers.get("Range", "")
        host.requests.append((name, wanted))
        faults = host.faults.pop(0) if host.faults else host.always
        status = next((fault for fault in faults if isinstance(fault, int)), 200)
        if name not in host.files and status == 200:
            status = 404
        if status != 200:
            self.send_response(status)
            if host.retry_after:
                self.send_header("Retry-After", host.retry_after)
            self.end_headers()
            return
        body = host.files[name]
        tag = f'"{host.versions.get(name, "1")}"'
        start = 0
        same = self.headers.get("If-Range") == tag or "no if-range" in faults
        if wanted and same and not faults & {"no range", "chunked"}:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("ETag", tag)
        kind = "text/html" if "html" in faults else "application/octet-stream"
        self.send_header("Content-Type", kind)
        if "chunked" in faults:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n" % len(body))
            self.send(body, faults)
            self.wfile.write(b"" if "cut" in faults else b"\r\n0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.send(body[start:], faults)

    def send(self, body: bytes, faults: set[int | str]) -> None:
        if "cut" in faults:
            body = body[: (len(body) + 1) // 2]
        step = 16_384 if "slow" in faults else max(len(body), 1)
        for begin in range(0, len(body), step):
            self.wfile.write(body[begin : begin + step])
            if "slow" in faults:
                time.sleep(0.01)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[FakeServer]:
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
