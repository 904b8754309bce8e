"""An HTTP server that answers as it is told: for what no S3 at hand says, and for what is no S3."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: str = ""
    content_type: str = "application/xml"
    headers: dict[str, str] = field(default_factory=dict)


def error(code: str, status: int, inside: str = "", **headers: str) -> Answer:
    """One of S3's own, with further elements `inside`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, f"<Error><Code>{code}</Code><Message>no</Message>{inside}</Error>", headers=named)


@contextmanager
def answering(answer: Callable[[str], Answer]) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the requests so far ("GET /path"), from which `answer` makes each answer."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(f"{self.command} {self.path}")
            said = answer(asked[-1])
            body = said.body.encode()
            self.send_response(said.status)
            for name, value in {"Content-Type": said.content_type, **said.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
