"""Fixtures that run the command line as a user does: real processes and a real server."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.client import Client
from tests.support.serving import serving, settings_for

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def url(services: "Services", database: str, bucket: str, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of a server that has a bucket configuration `local`."""
    with serving(settings_for(services, database, tmp_path)) as server:
        s3 = services.s3
        with Client(server.url) as client:
            client.add_bucket(
                "local", endpoint=s3.endpoint, bucket=bucket, access_key=s3.access_key, secret_key=s3.secret_key
            )
        yield server.url


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `datas3t` in the folder `work` of the test, without a terminal.

    `answer` is its standard input; further keyword arguments are environment variables.
    """
    monkeypatch.delenv("DATAS3T_SERVER_URL", raising=False)
    folder = tmp_path / "work"
    folder.mkdir()

    def datas3t(*arguments: str, answer: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "datas3t", *arguments],
            check=False,
            input=answer,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=folder,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), **environment},
        )

    return datas3t
