"""The whole of `datas3t up`, in a process of its own."""

import contextlib
import json
import signal
import socket
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.stack import Process, living_in, wait_until

_UP = """
import sys
from pathlib import Path
from datas3t.embedded.stack import up
sys.exit(up(Path(sys.argv[1]), sys.argv[2]))
"""

# Python drops exceptions that are raised while a fork hook runs.
_SIGNAL_DURING_FORK = """
import os, signal
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
"""


def start(data_dir: Path, addr: str = "127.0.0.1:0") -> Process:
    return Process(["-c", _UP, str(data_dir), addr], data_dir.with_suffix(".out"))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@contextlib.contextmanager
def running(data_dir: Path) -> Iterator[tuple[Process, dict[str, Any]]]:
    """A stack that is ready, with what its stack.json says. Told to end with the block, if it still runs."""
    up = start(data_dir)
    try:
        file = data_dir / "stack.json"
        wait_until(lambda: file.exists() or not up.running, seconds=60, what="stack.json")
        assert up.running, up.log
        yield up, json.loads(file.read_text())
    finally:
        if up.running:
            up.terminate()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def test_a_bucket_configuration_is_there_and_the_next_run_has_it_too(data_dir: Path) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        with running(data_dir) as (up, stack):
            expected = [{"name": "local", "endpoint": stack["s3"]["endpoint"], "bucket": stack["s3"]["bucket"]}]
            assert get(stack["server_url"] + "/api/bucket") == expected
            assert up.terminate(signum) == 0
        assert not (data_dir / "stack.json").exists()


def test_it_says_where_it_is_and_how_to_go_on(data_dir: Path) -> None:
    with running(data_dir) as (up, stack):
        wait_until(lambda: "Ctrl-C" in up.log)
        assert up.log.startswith(f"datas3t is ready at {stack['server_url']}\n")
        assert f"export DATAS3T_SERVER_URL={stack['server_url']}\n" in up.log
        assert f"{data_dir}/stack.json" in up.log
        assert not [secret for secret in (stack["encryption_key"], stack["s3"]["secret_key"]) if secret in up.log]


def test_stack_json_holds_what_scripts_need_for_its_owner_alone(data_dir: Path) -> None:
    with running(data_dir) as (_, stack):
        assert list(stack) == ["server_url", "db_url", "encryption_key", "s3"]
        assert list(stack["s3"]) == ["endpoint", "bucket", "access_key", "secret_key"]
        assert stat.S_IMODE((data_dir / "stack.json").stat().st_mode) == 0o600
        with psycopg.connect(stack["db_url"]) as connection:
            assert connection.execute("SELECT name FROM s3_buckets").fetchall() == [("local",)]


def test_an_address_that_is_taken_is_an_error_of_one_line_and_nothing_is_left(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        up = start(data_dir, addr)
        assert up.wait(60) == 1
    assert up.log.startswith("Error: ")
    assert addr in up.log
    assert up.log.count("\n") == 1
    assert not living_in(data_dir)


def test_if_a_service_ends_so_does_everything_and_it_says_which(data_dir: Path) -> None:
    with running(data_dir) as (up, _):
        (weed,) = [process for process in living_in(data_dir) if process.name() == "weed"]
        weed.kill()
        assert up.wait(60) == 1
    assert "Error: SeaweedFS ended with status -9" in up.log
    assert not living_in(data_dir)


def test_a_signal_while_it_starts_ends_it_cleanly(data_dir: Path) -> None:
    up = start(data_dir)
    wait_until(lambda: bool(living_in(data_dir)), what="the first service")
    assert up.terminate() == 0
    assert not living_in(data_dir)


def test_a_signal_during_a_fork_ends_it_cleanly(data_dir: Path) -> None:
    up = Process(["-c", _SIGNAL_DURING_FORK + _UP, str(data_dir), "127.0.0.1:0"], data_dir.with_suffix(".out"))
    assert up.wait() == 0, up.log
    assert not living_in(data_dir)
