"""Usage: help, options before and after the sub-command, exit codes, what is imported, bars on a terminal, Ctrl-C."""

import base64
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.support.stack import wait_until
from tests.support.tars import write_archive

NOWHERE = "http://127.0.0.1:1"


def test_keygen_prints_32_bytes_in_base64_and_nothing_else(run: Run) -> None:
    done = run("keygen")
    assert (len(base64.b64decode(done.stdout.strip(), validate=True)), done.stderr) == (32, "")
    assert done.stdout.count("\n") == 1
    assert run("keygen").stdout != done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("bucket", "add", "--name", "x"),
        ("cat-range", "x", "1"),
        ("cat-range", "x", "-1", "2"),
        ("cat-range", "x", "1", str(2**63)),
        ("datarange", "upload-tar", "--datas3t", "x", "--file", "y", "--max-parallelism", "0"),
        ("datarange", "download-tar", "--datas3t", "x", "--chunk-size", "none"),
        ("server",),
        ("server", "--db-url", "postgres://h/d"),
        ("server", "--db-url", "mysql://h/d", "--encryption-key", "YQ=="),
        ("server", "--db-url", "postgres://h/d", "--encryption-key", "YQ==", "--addr", "nowhere"),
    ],
)
def test_wrong_usage_exits_2(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, DB_URL="", ENCRYPTION_KEY="", ADDR=":0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_named(run: Run) -> None:
    done = run("datas3t", "list", "--server-url", NOWHERE)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert NOWHERE in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "environment", "wins"),
    [
        ("", "", "http://127.0.0.1:3", "3"),
        ("http://127.0.0.1:1", "", "", "1"),
        ("", "http://127.0.0.1:2", "", "2"),
        ("http://127.0.0.1:1", "", "http://127.0.0.1:3", "1"),
        ("", "http://127.0.0.1:2", "http://127.0.0.1:3", "2"),
        ("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3", "2"),
    ],
)
def test_the_server_url_stands_anywhere_and_beats_the_environment(
    run: Run, before: str, after: str, environment: str, wins: str
) -> None:
    first = ("--server-url", before) if before else ()
    last = ("--server-url", after) if after else ()
    done = run(*first, "datas3t", "list", *last, DATAS3T_SERVER_URL=environment)
    assert f"http://127.0.0.1:{wins}" in done.stderr


def test_help_imports_nothing_heavy(run: Run) -> None:
    code = (
        "import sys; from datas3t.cli.main import run; run(['--help']); run(['datarange', 'upload-tar', '-h']);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"grpc", "google", "psycopg", "boto3", "numpy", "rich", "pycurl"} & set(done.stderr.split())


def test_bars_show_on_a_terminal_only(run: Run, tmp_path: Path) -> None:
    (tmp_path / "work/in").mkdir()
    (tmp_path / "work/in/a.txt").write_bytes(b"x" * 100_000)
    command = [sys.executable, "-m", "datas3t", "datarange", "pack", "--output", "a.tar", "in"]
    leader, follower = pty.openpty()
    with subprocess.Popen(
        command, cwd=tmp_path / "work", stdout=subprocess.PIPE, stderr=follower, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(follower)
        shown = b""
        try:
            while piece := os.read(leader, 4096):
                shown += piece
        except OSError:
            pass
        assert process.stdout is not None
        result = process.stdout.read()
    os.close(leader)
    assert b"pack" in shown
    assert b"100%" in shown or b"\xe2\x94\x81" in shown
    assert result.startswith(b"/")


def test_ctrl_c_exits_130_and_the_same_command_goes_on(url: str, run: Run, tmp_path: Path) -> None:
    assert run("datas3t", "add", "--name", "d", "--bucket", "local", "--server-url", url).returncode == 0
    big = tmp_path / "work/big.tar"
    write_archive(big, 1, 1, [1 << 20] * 60)
    upload = ("datarange", "upload-tar", "--datas3t", "d", "--file", "big.tar", "--server-url", url)
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    process = subprocess.Popen(
        [sys.executable, "-m", "datas3t", *upload],
        cwd=tmp_path / "work",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    journals = tmp_path / "state"
    wait_until(lambda: process.poll() is not None or any(path.is_file() for path in journals.rglob("*")))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1
    done = run(*upload)
    assert done.returncode == 0, done.stderr
    assert "datapoints 1 to 60" in done.stdout
