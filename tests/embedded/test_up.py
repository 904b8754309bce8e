"""The whole of `datas3t up`, in its own process."""

import contextlib
import json
import signal
import socket
import stat
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.support.stack import Process, living_in, wait_until

_UP = """
import sys
from pathlib import Path
from datas3t.embedded.stack import up
sys.exit(up(Path(sys.argv[1]), sys.argv[2]))
"""

# Python drops exceptions that are raised while it runs a fork hook.
_SIGNAL_WITH_EACH_CHILD = """
import os, signal, subprocess
class Popen(subprocess.Popen):
    def _execute_child(self, *arguments):
        super()._execute_child(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)  # the child runs, and nobody has its handle yet
subprocess.Popen = Popen
"""


_SHORT_DRAIN = """
from datetime import timedelta
from datas3t.embedded import stack
stack._DRAIN = timedelta(seconds=1)
"""
_HANGING = {
    "the server": """
import threading
from datas3t.server.app.server import Server
Server.stop = lambda server: threading.Event().wait()
""",
    "a thread": """
import threading
threading.Thread(target=threading.Event().wait).start()  # Python waits for it when it exits
""",
    "a service": """
import threading
from datas3t.embedded.seaweedfs import SeaweedFS
SeaweedFS.stop = lambda service: threading.Event().wait()
""",
}


def start(data_dir: Path, addr: str = "127.0.0.1:0", *, program: str = _UP, log: Path | None = None) -> Process:
    return Process(["-c", program, str(data_dir), addr], log or data_dir.with_suffix(".out"))


@contextlib.contextmanager
def running(data_dir: Path) -> Iterator[tuple[Process, dict[str, Any]]]:
    """Start `datas3t up` and yield its process and the content of stack.json. It is stopped after the block."""
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
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def test_the_first_run_adds_a_bucket_configuration_that_the_next_run_has_too(new_data_dir: Path) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        with running(new_data_dir) as (up, stack):
            expected = [{"name": "local", "endpoint": stack["s3"]["endpoint"], "bucket": stack["s3"]["bucket"]}]
            assert get(stack["server_url"] + "/api/bucket") == expected
            assert up.terminate(signum) == 0
        assert not (new_data_dir / "stack.json").exists()


def test_addresses_and_keys_are_printed_for_people_and_stored_for_scripts(data_dir: Path) -> None:
    with running(data_dir) as (up, stack):
        # People read addresses and the next commands, but no secrets.
        wait_until(lambda: "Ctrl-C" in up.log)
        assert up.log.startswith(f"datas3t is ready at {stack['server_url']}\n")
        assert f"export DATAS3T_SERVER_URL={stack['server_url']}\n" in up.log
        assert f"{data_dir}/stack.json" in up.log
        assert not [secret for secret in (stack["encryption_key"], stack["s3"]["secret_key"]) if secret in up.log]
        # Scripts of the same user read everything from the file.
        assert list(stack) == ["server_url", "db_url", "encryption_key", "s3"]
        assert list(stack["s3"]) == ["endpoint", "bucket", "access_key", "secret_key"]
        assert stat.S_IMODE((data_dir / "stack.json").stat().st_mode) == 0o600
        with psycopg.connect(stack["db_url"]) as connection:
            assert connection.execute("SELECT name FROM s3_buckets").fetchall() == [("local",)]


def test_an_address_in_use_is_an_error_of_one_line_before_anything_is_built(new_data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        addr = f"127.0.0.1:{listener.getsockname()[1]}"
        up = start(new_data_dir, addr)
        assert up.wait(60) == 1
    assert up.log.startswith(f"Error: cannot listen on {addr}: the port is in use")
    assert up.log.count("\n") == 1
    assert [path.name for path in new_data_dir.iterdir()] == ["lock"]


def test_the_end_of_a_service_ends_everything_and_is_named(data_dir: Path) -> None:
    with running(data_dir) as (up, _):
        (weed,) = [process for process in living_in(data_dir) if process.name() == "weed"]
        weed.kill()
        assert up.wait(60) == 1
    assert "Error: SeaweedFS ended with status -9" in up.log
    assert not living_in(data_dir)


@pytest.mark.parametrize("service", ["weed", "initdb"])
def test_a_signal_during_a_start_ends_it_cleanly(new_data_dir: Path, service: str) -> None:
    up = start(new_data_dir)
    wait_until(lambda: service in names_of(new_data_dir), what=service)
    assert up.terminate() == 0, up.log
    assert not living_in(new_data_dir)


@pytest.mark.timing
@pytest.mark.parametrize("what", _HANGING)
def test_a_signal_ends_everything_in_time_whatever_hangs(data_dir: Path, what: str) -> None:
    up = start(data_dir, program=_SHORT_DRAIN + _HANGING[what] + _UP)
    file = data_dir / "stack.json"
    wait_until(lambda: file.exists() or not up.running, seconds=60, what="stack.json")
    began = time.monotonic()
    up.terminate(seconds=20)
    assert time.monotonic() - began < 1 + 5
    assert "Traceback" not in up.log
    wait_until(lambda: not living_in(data_dir), what="the end of the services")
    file.unlink(missing_ok=True)


def names_of(data_dir: Path) -> list[str]:
    """Return the names of the processes of a data directory."""
    names = []
    for process in living_in(data_dir):
        with contextlib.suppress(psutil.Error):
            names.append(process.name())
    return names


def test_a_signal_while_a_child_is_created_ends_the_start_cleanly(new_data_dir: Path) -> None:
    up = start(new_data_dir, program=_SIGNAL_WITH_EACH_CHILD + _UP)
    assert up.wait() == 0, up.log
    assert not living_in(new_data_dir)
