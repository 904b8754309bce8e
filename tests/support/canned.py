"""An HTTP server with canned responses: errors that the tests' S3 server never sends, and servers that are not S3."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.support.threaded import ThreadedHTTPServer


@dataclass(frozen=True)
class CannedResponse:
    """A response to send; the defaults are an empty one of S3's type."""

    status: int = 200
    body: str = ""
    content_type: str = "application/xml"
    headers: dict[str, str] = field(default_factory=dict)


def s3_error(code: str, status: int, inside: str = "", **headers: str) -> CannedResponse:
    """Return an error as S3 sends it, with the XML elements `inside`; headers are named with `_` in place of `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CannedResponse(status, f"<Error><Code>{code}</Code><Message>no</Message>{inside}</Error>", headers=named)


@contextmanager
def canned_server(respond: Callable[[str], CannedResponse]) -> Iterator[tuple[str, list[str]]]:
    """Yield the server's URL and the list of requests so far.

    `respond` returns the response to each request, which is text such as "GET /path".
    """
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # so that it responds to `Expect: 100-continue`, for which boto3 waits a second

        def _respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            requests.append(f"{self.command} {self.path}")
            response = respond(requests[-1])
            body = response.body.encode()
            self.send_response(response.status)
            for name, value in {"Content-Type": response.content_type, **response.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _respond  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadedHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
