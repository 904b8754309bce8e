"""What the benchmarks put in front of S3: nginx as a fast S3 that counts requests, and a relay that adds latency."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from bench import nginx

# Signatures cover the Host header that the client sends, so S3 must receive the same.
_SERVER = """
open_file_cache max=60000 inactive=1h; open_file_cache_valid 1h;
log_format counted '$uri $body_bytes_sent';
upstream s3 {{ server {s3}; keepalive 64; }}
server {{
  listen 127.0.0.1:{port}; root {root}; access_log {log} counted;
  client_max_body_size 0;
  location / {{ try_files $uri @s3; }}
  location @s3 {{
    proxy_pass http://s3; proxy_set_header Host $http_host; proxy_set_header Connection "";
    proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off;
  }}
}}
"""
_sentinels = count(1)


@dataclass(frozen=True)
class Asked:
    """The GETs that nginx has received.

    Attributes:
        indices: How many were for indices.
        others: How many were for anything else.
        size: The bytes of all response bodies.
    """

    indices: int
    others: int
    size: int

    @property
    def requests(self) -> int:
        """The number of all GETs."""
        return self.indices + self.others


@dataclass(frozen=True)
class Front:
    """An nginx in front of S3. It serves files itself, with its own ETags, and passes other requests on.

    Attributes:
        endpoint: Its URL.
        root: The folder of the files that it serves.
        log: Its log of requests.
    """

    endpoint: str
    root: Path
    log: Path

    def reset_counts(self) -> None:
        """Start counting from 0."""
        os.truncate(self.log, 0)

    def asked(self) -> Asked:
        """Return the counts. The requests must have been completed."""
        indices = others = size = 0
        for line in self._lines():
            uri, sent = line.split()
            indices += uri.endswith(".index")
            others += not uri.endswith(".index")
            size += int(sent)
        return Asked(indices, others, size)

    def etag(self, path: Path) -> str:
        """Return the ETag that nginx sends for this file."""
        status = path.stat()
        return f"{int(status.st_mtime):x}-{status.st_size:x}"

    def _lines(self) -> list[str]:
        """Return the lines of the log.

        nginx writes a line a moment after its response. So this makes an extra request, and waits for its line.
        """
        name = f"/sentinel-{next(_sentinels)}"
        (self.root / name[1:]).touch()
        while True:
            urllib.request.urlopen(self.endpoint + name).close()
            lines = self.log.read_text().splitlines()
            if any(line.startswith(f"{name} ") for line in lines):
                (self.root / name[1:]).unlink()
                return [line for line in lines if not line.startswith("/sentinel-")]


@contextlib.contextmanager
def fast(s3_endpoint: str, root: Path) -> Iterator[Front]:
    """Run nginx in front of the S3 at that endpoint."""
    root.chmod(0o755)
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        log = Path(folder, "asked.log")
        log.touch()
        with nginx.serving(_SERVER, s3=urlsplit(s3_endpoint).netloc, root=root, log=log) as endpoint:
            yield Front(endpoint, root, log)


def can_delay() -> bool:
    """Return whether this machine can build and run the relay."""
    return sys.platform == "linux" and shutil.which("cc") is not None


@contextlib.contextmanager
def delayed(endpoint: str, milliseconds: float) -> Iterator[str]:
    """Run a relay to the endpoint that delays the first byte of each response, and return the relay's endpoint."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "relay")
        subprocess.run(["cc", "-O2", "-o", program, Path(__file__).with_name("relay.c")], check=True)
        port = nginx.free_port()
        target = urlsplit(endpoint).port
        command = [str(program), str(port), str(target), str(round(milliseconds * 1000))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == "ready\n"
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
