"""The clients of docs/clients.md in other languages read a datapoint from a real server. Not part of the usual run.

make test-languages
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.client import Client
from tests.client.archives import sample
from tests.support.serving import serving, settings_for

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

CLIENTS = Path(__file__).parents[2] / "examples/clients"
PROTOC = f"{sys.executable} -m grpc_tools.protoc"

pytestmark = [pytest.mark.languages, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Stored:
    """A server's address, and the contents of its datas3t `photos`."""

    address: str
    contents: dict[int, bytes]


@pytest.fixture
def stored(services: "Services", database: str, bucket: str, tmp_path: Path) -> Iterator[Stored]:
    """Yield a server with datapoints of several sizes, an empty one among them."""
    with serving(settings_for(services, database, tmp_path)) as server, Client(server.url) as client:
        s3 = services.s3
        client.add_bucket(
            "local", endpoint=s3.endpoint, bucket=bucket, access_key=s3.access_key, secret_key=s3.secret_key
        )
        client.add_datas3t("photos", bucket="local")
        uploaded = sample(tmp_path / "a.tar", 40, 1000, 0, 70_000)
        client.upload_tar("photos", uploaded.path)
        yield Stored(server.url.removeprefix("http://"), uploaded.contents)


def run(folder: str, *command: str, **environment: str) -> bytes:
    """Run a command in the folder of a client, and return its standard output."""
    done = subprocess.run(
        command, check=False, cwd=CLIENTS / folder, capture_output=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return done.stdout


def go() -> Callable[[str, str, str], bytes]:
    """Build the client in Go; return a function that runs it."""
    run("go", "./generate.sh", PROTOC=PROTOC)
    run("go", "go", "build", "-o", "bin/client", ".")
    return lambda *arguments: run("go", "bin/client", *arguments)


def typescript() -> Callable[[str, str, str], bytes]:
    """Check the types of the client in TypeScript; return a function that runs it."""
    run("typescript", "npm", "install", "--no-audit", "--no-fund")
    run("typescript", "npm", "run", "types")
    run("typescript", "npm", "run", "check")
    return lambda *arguments: run("typescript", "npm", "start", "--silent", "--", *arguments)


def java() -> Callable[[str, str, str], bytes]:
    """Compile the client in Java; return a function that runs it."""
    run("java", "mvn", "-q", "-B", "compile")
    return lambda *arguments: run(
        "java", "java", "-cp", "target/classes:target/dependency/*", "example.Main", *arguments
    )


def rust() -> Callable[[str, str, str], bytes]:
    """Compile the client in Rust; return a function that runs it."""
    run("rust", "cargo", "build", "--quiet")
    return lambda address, *rest: run("rust", "cargo", "run", "--quiet", "--", f"http://{address}", *rest)


LANGUAGES = {go: "go", typescript: "npm", java: "mvn", rust: "cargo"}


@pytest.mark.parametrize("build", LANGUAGES, ids=lambda build: build.__name__)
def test_a_client_reads_datapoints(build: Callable[[], Callable[[str, str, str], bytes]], stored: Stored) -> None:
    if shutil.which(LANGUAGES[build]) is None:
        pytest.skip(f"{LANGUAGES[build]} is not installed")
    client = build()
    for key, content in stored.contents.items():
        assert client(stored.address, "photos", str(key)) == content
