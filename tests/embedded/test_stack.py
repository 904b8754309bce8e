"""The services run in their own process here, which is stopped, killed and started again."""

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

from datas3t.embedded import StackError, ports, postgres, processes
from datas3t.embedded.data_dir import load_secrets, locked
from datas3t.embedded.seaweedfs import SeaweedFS
from tests.support.front import running_front
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
    """The services of a data directory in their own process, until they are stopped or killed."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.process = Process(["-W", "error", "-c", _SERVICES, str(data_dir)], data_dir.with_suffix(".out"))

    def wait_ready(self) -> dict[str, Any]:
        """Wait for stack.json and return its content."""
        file = self.data_dir / "stack.json"
        wait_until(lambda: file.exists() or not self.process.running, what="stack.json")
        assert self.process.running, self.process.log
        content: dict[str, Any] = json.loads(file.read_text())
        return content

    def crash(self) -> None:
        """Kill the process with SIGKILL, and remove stack.json, so that `wait_ready` waits for that of the next run."""
        self.process.kill()
        (self.data_dir / "stack.json").unlink()


Start = Callable[[Path], Run]


@pytest.fixture
def start() -> Iterator[Start]:
    """Yield a function that starts the services of a data directory as often as needed. All are stopped in the end."""
    runs: list[Run] = []

    def start(data_dir: Path) -> Run:
        runs.append(Run(data_dir))
        return runs[-1]

    yield start
    for run in runs:
        if sys.platform == "linux":
            run.process.kill()  # faster, and as thorough
        else:
            run.process.terminate()
    wait_until(lambda: not any(living_in(run.data_dir) for run in runs), what="the end of all processes")
    for data_dir in {run.data_dir for run in runs}:
        if (data_dir / "ports.json").exists():
            SeaweedFS(data_dir, stored_ports(data_dir), "", "").remove_sockets()


def write(stack: dict[str, Any]) -> None:
    """Store a row and an object."""
    with psycopg.connect(stack["db_url"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with s3_client(stack) as s3:
        s3.put_object(Bucket=stack["s3"]["bucket"], Key="kept", Body=b"content")


def read(stack: dict[str, Any]) -> tuple[Any, bytes]:
    """Return that row and the content of that object."""
    with psycopg.connect(stack["db_url"]) as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
    with s3_client(stack) as s3:
        return row, s3.get_object(Bucket=stack["s3"]["bucket"], Key="kept")["Body"].read()


WRITTEN = ((42,), b"content")


@contextlib.contextmanager
def s3_client(stack: dict[str, Any]) -> Iterator[Any]:
    s3 = stack["s3"]
    keys = {"aws_access_key_id": s3["access_key"], "aws_secret_access_key": s3["secret_key"]}
    client = boto3.client("s3", endpoint_url=s3["endpoint"], region_name="us-east-1", **keys)
    yield client
    client.close()


def stored_ports(data_dir: Path) -> dict[str, int]:
    numbers: dict[str, int] = json.loads((data_dir / "ports.json").read_text())
    return numbers


def test_a_restart_keeps_data_addresses_and_keys(start: Start, data_dir: Path) -> None:
    first = start(data_dir)
    before = first.wait_ready()
    write(before)
    assert first.process.terminate(signal.SIGINT) == 0
    assert living_in(data_dir) == []
    after = start(data_dir).wait_ready()
    assert after == before
    assert read(after) == WRITTEN


def test_kill_9_leaves_no_process_and_loses_nothing(start: Start, data_dir: Path) -> None:
    first = start(data_dir)
    write(first.wait_ready())
    assert len(living_in(data_dir)) > 2
    first.crash()
    if sys.platform == "linux":  # elsewhere the next start ends them
        wait_until(lambda: living_in(data_dir) == [], what="the end of all processes")
    assert read(start(data_dir).wait_ready()) == WRITTEN


def test_a_start_right_after_kill_9_works(start: Start, data_dir: Path) -> None:
    first = start(data_dir)
    write(first.wait_ready())
    first.crash()
    assert read(start(data_dir).wait_ready()) == WRITTEN


def test_a_start_ends_a_busy_backend_of_a_killed_run(start: Start, data_dir: Path) -> None:
    first = start(data_dir)
    stack = first.wait_ready()
    write(stack)
    query = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b"
    with contextlib.closing(psycopg.connect(stack["db_url"], autocommit=True)) as connection:
        pid = connection.info.backend_pid
        connection.pgconn.send_query(query.encode())
        postmaster = psutil.Process(int((data_dir / "postgres/postmaster.pid").read_text().split()[0]))
        wait_until(lambda: psutil.Process(pid).cpu_times().user > 0.1, what="a busy backend")
        postmaster.kill()
        first.crash()
    assert psutil.pid_exists(pid)
    assert read(start(data_dir).wait_ready()) == WRITTEN


def test_a_second_start_is_refused_and_does_not_disturb_the_first(start: Start, data_dir: Path) -> None:
    first = start(data_dir)
    stack = first.wait_ready()
    second = start(data_dir)
    assert second.process.wait() == 1
    message = f"{data_dir} is in use by another datas3t up (process {first.process.pid}); stop that one"
    assert message in second.process.log
    assert "Traceback" not in second.process.log
    write(stack)
    assert read(stack) == WRITTEN


def test_a_start_ends_no_other_program_and_ignores_a_stale_pid_file(start: Start, data_dir: Path) -> None:
    first = start(data_dir)
    write(first.wait_ready())
    first.crash()
    with subprocess.Popen(["sleep", "60"], cwd=data_dir / "s3") as other_program:
        (data_dir / "postgres/postmaster.pid").write_text(f"{other_program.pid}\n")
        assert read(start(data_dir).wait_ready()) == WRITTEN
        assert other_program.poll() is None
        other_program.kill()


def test_only_the_owner_can_read_files_with_secrets(start: Start, new_data_dir: Path) -> None:
    stack = start(new_data_dir).wait_ready()
    assert sorted(stack) == ["db_url", "encryption_key", "s3", "server_url"]
    assert sorted(stack["s3"]) == ["access_key", "bucket", "endpoint", "secret_key"]
    for name in ("stack.json", "secrets.json", "postgres.log", "seaweedfs.log"):
        assert stat.S_IMODE((new_data_dir / name).stat().st_mode) == 0o600
    secrets = (stack["s3"]["secret_key"], stack["encryption_key"], stack["db_url"].split(":")[2].split("@")[0])
    commands = [" ".join(process.cmdline()) for process in living_in(new_data_dir)]
    logs = [(new_data_dir / name).read_text() for name in ("postgres.log", "seaweedfs.log")]
    assert not [text for text in commands + logs for secret in secrets if secret in text]


def test_a_start_fails_if_the_port_of_s3_is_in_use_and_removes_a_stale_stack_file(
    start: Start, new_data_dir: Path
) -> None:
    new_data_dir.mkdir()
    (new_data_dir / "stack.json").write_text("{}")
    port = ports.choose(new_data_dir)["s3"]
    with socket.create_server(("127.0.0.1", port)):
        refused = start(new_data_dir)
        assert refused.process.wait() == 1
    assert f"port {port}, where bucket configurations expect S3, is in use" in refused.process.log
    assert not (new_data_dir / "stack.json").exists()


def test_ports_in_use_are_replaced_except_that_of_s3(start: Start, data_dir: Path) -> None:
    first = start(data_dir)
    write(first.wait_ready())
    first.process.terminate()
    before = stored_ports(data_dir)
    with socket.create_server(("127.0.0.1", before["postgres"])), socket.create_server(("127.0.0.1", before["filer"])):
        assert read(start(data_dir).wait_ready()) == WRITTEN
    after = stored_ports(data_dir)
    assert {name for name in before if before[name] != after[name]} == {"postgres", "filer"}


def test_a_cluster_of_another_version_is_refused(start: Start, new_data_dir: Path) -> None:
    new_data_dir.mkdir()
    load_secrets(new_data_dir)
    (new_data_dir / "postgres").mkdir()
    (new_data_dir / "postgres/PG_VERSION").write_text("16\n")
    refused = start(new_data_dir)
    assert refused.process.wait() == 1
    assert "was created by PostgreSQL 16, and this is PostgreSQL 18" in refused.process.log
    assert living_in(new_data_dir) == []


def test_missing_secrets_are_an_error_that_names_their_file(start: Start, new_data_dir: Path) -> None:
    (new_data_dir / "postgres").mkdir(parents=True)
    refused = start(new_data_dir)
    assert refused.process.wait() == 1
    assert f"{new_data_dir / 'secrets.json'} is missing" in refused.process.log


def test_an_unfinished_cluster_is_removed_and_a_new_one_created(start: Start, new_data_dir: Path) -> None:
    (new_data_dir / "postgres.new-1234").mkdir(parents=True)
    (new_data_dir / "postgres.new-1234/PG_VERSION").write_text("18\n")
    write(start(new_data_dir).wait_ready())
    assert sorted(path.name for path in new_data_dir.glob("postgres*")) == ["postgres", "postgres.log"]


def test_an_unusable_data_directory_is_an_error_of_one_line(start: Start, new_data_dir: Path) -> None:
    new_data_dir.write_text("a file")
    refused = start(new_data_dir)
    assert refused.process.wait() == 1
    assert refused.process.log.startswith(f"cannot use {new_data_dir}: ")
    assert refused.process.log.count("\n") == 1


def test_a_variable_that_leads_to_an_unusable_data_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    message = rf"^cannot use {tmp_path}/file/datas3t \(a folder of XDG_DATA_HOME\): Not a directory; choose another"
    with pytest.raises(StackError, match=message), locked(tmp_path / "file/datas3t"):
        pass


def test_a_large_log_is_moved_while_its_process_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_MAX_LOG_SIZE", 10)
    daemon = SeaweedFS(tmp_path, {}, "", "")
    with processes.append_to(daemon.log) as log:
        os.write(log, b"a line of some length\n")
        daemon.limit_log()
        os.write(log, b"another\n")
        daemon.limit_log()
    assert daemon.log.read_text() == "another\n"
    moved = tmp_path / "seaweedfs.log.1"
    assert moved.read_text() == "a line of some length\n"
    assert stat.S_IMODE(moved.stat().st_mode) == 0o600


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


def test_children_start_while_a_grpc_server_runs_in_the_process(tmp_path: Path) -> None:
    # A fork would run gRPC's handlers in the child, which abort it about once in fifty times.
    with running_front(), (tmp_path / "log").open("wb") as log:
        for _ in range(100):
            child = processes.popen(
                ["/bin/sh", "-c", "exit 7"],
                {},
                tmp_path,
                log.fileno(),
                account=None,
                death_signal=signal.SIGKILL,
            )
            assert child.wait() == 7
