"""The services live in a process of their own here, which is stopped, killed and started again."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import psycopg
import pytest

from datas3t.embedded import ports, postgres
from datas3t.embedded.data_dir import load_secrets
from datas3t.embedded.seaweedfs import SeaweedFS
from tests.support.stack import Process, living_in, wait_until

_SERVICES = """
import sys, signal
from pathlib import Path
from datas3t.embedded import StackError
from datas3t.embedded.signals import until_signalled
from datas3t.embedded.stack import services, write_stack_file
try:
    with until_signalled(), services(Path(sys.argv[1]), durable=False) as running:
        write_stack_file(running, "no server")
        while True:
            signal.pause()
except StackError as error:
    sys.exit(str(error))
"""


class Run:
    """The services of a data directory, until they are stopped or killed."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.process = Process(["-W", "error", "-c", _SERVICES, str(data_dir)], data_dir.with_suffix(".out"))

    def wait_ready(self) -> dict[str, Any]:
        """What stack.json says, once it is there."""
        file = self.data_dir / "stack.json"
        wait_until(lambda: file.exists() or not self.process.running, what="stack.json")
        assert self.process.running, self.process.log
        content: dict[str, Any] = json.loads(file.read_text())
        return content

    def crash(self) -> None:
        """kill -9 of the parent. What it told scripts is taken away, so that `wait_ready` sees the next run's."""
        self.process.kill()
        (self.data_dir / "stack.json").unlink()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[], Run]]:
    """Starts the services of one data directory, again and again; at the end none is left running."""
    runs: list[Run] = []

    def start() -> Run:
        runs.append(Run(tmp_path / "data"))
        return runs[-1]

    yield start
    for each in runs:
        if sys.platform == "linux":
            each.process.kill()  # quicker, and as thorough
        else:
            each.process.terminate()
    wait_until(lambda: not living_in(tmp_path / "data"), what="the end of all processes")
    if (tmp_path / "data/ports.json").exists():
        SeaweedFS(tmp_path / "data", stored_ports(tmp_path / "data"), "", "").remove_sockets()


def write(stack: dict[str, Any]) -> None:
    with psycopg.connect(stack["db_url"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with objects(stack) as s3:
        s3.put_object(Bucket=stack["s3"]["bucket"], Key="kept", Body=b"content")


def read(stack: dict[str, Any]) -> tuple[Any, bytes]:
    with psycopg.connect(stack["db_url"]) as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
    with objects(stack) as s3:
        return row, s3.get_object(Bucket=stack["s3"]["bucket"], Key="kept")["Body"].read()


KEPT = ((42,), b"content")


@contextlib.contextmanager
def objects(stack: dict[str, Any]) -> Iterator[Any]:
    s3 = stack["s3"]
    keys = {"aws_access_key_id": s3["access_key"], "aws_secret_access_key": s3["secret_key"]}
    client = boto3.client("s3", endpoint_url=s3["endpoint"], region_name="us-east-1", **keys)
    yield client
    client.close()


def test_a_restart_keeps_data_addresses_and_keys(run: Callable[[], Run]) -> None:
    first = run()
    before = first.wait_ready()
    write(before)
    assert first.process.terminate(signal.SIGINT) == 0
    assert living_in(first.data_dir) == []
    again = run().wait_ready()
    assert again == before
    assert read(again) == KEPT


def test_kill_9_leaves_no_process_and_loses_nothing(run: Callable[[], Run]) -> None:
    first = run()
    before = first.wait_ready()
    write(before)
    assert len(living_in(first.data_dir)) > 2
    first.crash()
    if sys.platform == "linux":  # elsewhere the next start ends them
        wait_until(lambda: living_in(first.data_dir) == [], what="the end of all processes")
    assert read(run().wait_ready()) == KEPT


def test_a_start_right_after_kill_9_works(run: Callable[[], Run]) -> None:
    first = run()
    write(first.wait_ready())
    first.crash()
    assert read(run().wait_ready()) == KEPT


def test_a_busy_backend_of_a_killed_run_gives_way(run: Callable[[], Run]) -> None:
    first = run()
    stack = first.wait_ready()
    write(stack)
    query = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b"
    with contextlib.closing(psycopg.connect(stack["db_url"], autocommit=True)) as connection:
        pid = connection.info.backend_pid
        connection.pgconn.send_query(query.encode())
        postmaster = psutil.Process(int((first.data_dir / "postgres/postmaster.pid").read_text().split()[0]))
        wait_until(lambda: psutil.Process(pid).cpu_times().user > 0.1, what="a busy backend")
        postmaster.kill()
        first.crash()
    assert psutil.pid_exists(pid)
    assert read(run().wait_ready()) == KEPT


def test_a_second_start_is_refused_and_does_not_disturb_the_first(run: Callable[[], Run]) -> None:
    first = run()
    stack = first.wait_ready()
    second = run()
    assert second.process.wait() == 1
    message = f"{first.data_dir} is in use by another datas3t up (process {first.process.pid}); stop that one"
    assert message in second.process.log
    assert "Traceback" not in second.process.log
    write(stack)
    assert read(stack) == KEPT


def test_what_is_not_ours_lives_on_and_a_stale_lock_file_stops_nobody(run: Callable[[], Run]) -> None:
    first = run()
    write(first.wait_ready())
    first.crash()
    with subprocess.Popen(["sleep", "60"], cwd=first.data_dir / "s3") as bystander:
        (first.data_dir / "postgres/postmaster.pid").write_text(f"{bystander.pid}\n")
        assert read(run().wait_ready()) == KEPT
        assert bystander.poll() is None
        bystander.kill()


def test_files_with_secrets_are_for_their_owner_alone(run: Callable[[], Run]) -> None:
    first = run()
    stack = first.wait_ready()
    assert sorted(stack) == ["db_url", "encryption_key", "s3", "server_url"]
    assert sorted(stack["s3"]) == ["access_key", "bucket", "endpoint", "secret_key"]
    for name in ("stack.json", "secrets.json", "postgres.log", "seaweedfs.log"):
        assert stat.S_IMODE((first.data_dir / name).stat().st_mode) == 0o600
    secret = (stack["s3"]["secret_key"], stack["encryption_key"], stack["db_url"].split(":")[2].split("@")[0])
    commands = [" ".join(process.cmdline()) for process in living_in(first.data_dir)]
    logs = [(first.data_dir / name).read_text() for name in ("postgres.log", "seaweedfs.log")]
    assert not [text for text in commands + logs for word in secret if word in text]


def test_a_taken_s3_port_is_named_and_a_stale_stack_file_goes(run: Callable[[], Run], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "stack.json").write_text("{}")
    port = ports.choose(data)["s3"]
    with socket.create_server(("127.0.0.1", port)):
        refused = run()
        assert refused.process.wait() == 1
    assert f"port {port}, where bucket configurations expect S3, is in use" in refused.process.log
    assert not (data / "stack.json").exists()


def stored_ports(data_dir: Path) -> dict[str, int]:
    numbers: dict[str, int] = json.loads((data_dir / "ports.json").read_text())
    return numbers


def test_only_the_port_of_s3_must_stay(run: Callable[[], Run]) -> None:
    first = run()
    write(first.wait_ready())
    first.process.terminate()
    before = stored_ports(first.data_dir)
    with socket.create_server(("127.0.0.1", before["postgres"])), socket.create_server(("127.0.0.1", before["filer"])):
        assert read(run().wait_ready()) == KEPT
    after = stored_ports(first.data_dir)
    assert {name for name in before if before[name] != after[name]} == {"postgres", "filer"}


def test_a_cluster_of_another_version_is_refused(run: Callable[[], Run], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    load_secrets(data)
    (data / "postgres").mkdir()
    (data / "postgres/PG_VERSION").write_text("16\n")
    refused = run()
    assert refused.process.wait() == 1
    assert "was created by PostgreSQL 16, and this is PostgreSQL 18" in refused.process.log
    assert living_in(tmp_path / "data") == []


def test_lost_secrets_are_missed_by_name(run: Callable[[], Run], tmp_path: Path) -> None:
    (tmp_path / "data/postgres").mkdir(parents=True)
    refused = run()
    assert refused.process.wait() == 1
    assert f"{tmp_path / 'data/secrets.json'} is missing" in refused.process.log


def test_a_half_made_cluster_is_made_anew(run: Callable[[], Run], tmp_path: Path) -> None:
    (tmp_path / "data/postgres.new-1234").mkdir(parents=True)
    (tmp_path / "data/postgres.new-1234/PG_VERSION").write_text("18\n")
    first = run()
    write(first.wait_ready())
    assert [path.name for path in first.data_dir.glob("postgres*")] == ["postgres", "postgres.log"]


def test_a_data_directory_that_cannot_be_is_an_error_of_one_line(run: Callable[[], Run], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    refused = run()
    assert refused.process.wait() == 1
    assert refused.process.log.startswith(f"cannot use {tmp_path / 'data'}: ")
    assert refused.process.log.count("\n") == 1


def test_the_programs_run_from_a_copy(tmp_path: Path) -> None:
    programs = postgres.copy_programs(postgres.installed(), tmp_path / "copy")
    for name in ("initdb", "postgres"):
        done = subprocess.run([programs / name, "--version"], capture_output=True, text=True, check=True)
        assert "PostgreSQL) 18." in done.stdout
    marker = tmp_path / "copy/marker"
    marker.touch()
    assert postgres.copy_programs(postgres.installed(), tmp_path / "copy") == programs
    assert marker.exists()
    assert os.listdir(tmp_path) == ["copy"]
