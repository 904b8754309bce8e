"""`datas3t up --auth tokens`: who gets in, and how commands on the same machine find the token."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from datas3t.cli import options
from datas3t.cli.main import cli
from datas3t.client import Client, Unauthenticated
from datas3t.client._calls import credentials
from datas3t.client._calls.connection import resolve_address
from datas3t.local import folders
from tests.support.stack import Process, wait_until


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the data folder of a running `up` that asks for tokens, and the content of its stack.json."""
    folder = tmp_path_factory.mktemp("up")
    file = folder / "data/stack.json"
    up = Process(
        ["-m", "datas3t", "up", "--auth", "tokens", "--addr", "127.0.0.1:0", "--data-dir", str(folder / "data")],
        folder / "up.out",
    )
    try:
        wait_until(lambda: file.exists() or not up.running, 60, what="stack.json")
        assert up.running, up.log
        wait_until(lambda: "datas3t is ready" in up.log, what="the ready message")
        assert "Callers need the token in that file" in up.log
        yield file.parent, json.loads(file.read_text())
    finally:
        if up.running:
            up.terminate()


def found(url: str) -> str | None:
    """Return the token that a command finds for the server at this URL."""
    with click.Context(cli, obj={"server_url": url}):
        return options._token_of_up()


def test_only_who_has_the_token_gets_in(running: tuple[Path, dict[str, Any]]) -> None:
    folder, stack = running
    assert stat.S_IMODE((folder / "stack.json").stat().st_mode) == 0o600
    with Client(stack["server_url"]) as stranger, pytest.raises(Unauthenticated):
        stranger.list_datas3ts()
    with Client(stack["server_url"], token=stack["token"]) as client:
        assert client.whoami().role == "admin"
        assert [bucket.name for bucket in client.list_buckets()] == ["local"]


def test_commands_find_the_token_of_the_users_own_folder(
    running: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, stack = running
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(folders, "data", lambda: folder)
    url = str(stack["server_url"])
    assert found(url) == found(url.replace("127.0.0.1", "localhost")) == stack["token"]
    # Not for another server, and not where the user has another token.
    for other in ("http://127.0.0.1:1", url.replace("127.0.0.1", "192.0.2.1"), url.replace("http:", "https:")):
        assert found(other) is None
    credentials.store(resolve_address(url), "my-own")
    assert found(url) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"server_url": "no url", "token": "x"}', '{"server_url": 7}'])
def test_a_file_that_is_something_else_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(folders, "data", lambda: tmp_path)
    assert found("http://localhost:8765") is None
    (tmp_path / "stack.json").write_text(content)
    assert found("http://localhost:8765") is None
