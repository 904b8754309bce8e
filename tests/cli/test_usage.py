"""Test usage: help, the position of options, exit codes, imports, progress bars on a terminal, and Ctrl-C."""

import base64
import importlib.metadata
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest

from datas3t.cli.main import cli
from tests.cli.conftest import Run
from tests.support.stack import wait_until
from tests.support.tars import write_archive

UNUSED_URL = "http://127.0.0.1:1"


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
        ("cat-range", "x", "2", "1"),
        ("cat-range", "x", "1_0", "20"),
        ("up", "--addr", "nowhere"),
        ("datarange", "delete", "--datas3t", "x", "--first-datapoint", "2", "--last-datapoint", "1"),
        ("datarange", "upload-tar", "--datas3t", "x", "--file", "y", "--max-parallelism", "0"),
        ("datarange", "download-tar", "--datas3t", "x", "--chunk-size", "none"),
        ("server",),
        ("server", "--db-url", "postgres://h/d"),
        ("server", "--db-url", "mysql://h/d", "--encryption-key", "YQ=="),
        ("server", "--db-url", "postgres://h/d", "--encryption-key", "no base64"),
        ("server", "--db-url", "postgres://h/d?nosuch=1", "--encryption-key", "YQ=="),
        ("server", "--db-url", "postgres://h/d", "--encryption-key", "YQ==", "--addr", "nowhere"),
        ("server", "--db-url", "postgres://h/d", "--encryption-key", "YQ==", "--grpc-addr", "nowhere"),
        ("server", "--db-url", "postgres://h/d", "--encryption-key", "YQ==", "--max-cache-size", "much"),
        ("server", "--db-url", "postgres://h/d", "--encryption-key", "YQ==", "--max-cache-size", "0"),
        ("server", "--db-url", "postgres://h/d", "--encryption-key", "YQ==", "--url-lifetime", "8d"),
    ],
)
def test_wrong_usage_exits_2(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, DB_URL="", ENCRYPTION_KEY="", ADDR=":0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_is_shown_without_changing_the_terminal(run: Run) -> None:
    done = run("datas3t", "\x1b[31m\nError: forged")
    assert done.returncode == 2
    assert r"\x1b[31m\nError: forged" in done.stderr
    assert "\x1b" not in done.stderr


def test_an_unreachable_server_is_named_in_the_error(run: Run) -> None:
    done = run("datas3t", "list", "--server-url", UNUSED_URL)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert UNUSED_URL in done.stderr


def test_the_server_url_may_be_given_anywhere_and_takes_precedence_over_the_environment(run: Run) -> None:
    cases = [  # ports: before the group, after it, after the sub-command, in the environment, and the one that is used
        ("", "", "", "3", "3"),
        ("1", "", "", "", "1"),
        ("", "4", "", "3", "4"),
        ("", "", "2", "", "2"),
        ("1", "", "", "3", "1"),
        ("1", "4", "", "", "4"),
        ("", "", "2", "3", "2"),
        ("1", "4", "2", "3", "2"),
    ]

    def error_of(before: str, between: str, after: str, environment: str, _used: str) -> str:
        def option(port: str) -> list[str]:
            return ["--server-url", f"http://127.0.0.1:{port}"] if port else []

        variable = f"http://127.0.0.1:{environment}" if environment else ""
        arguments = [*option(before), "datas3t", *option(between), "list", *option(after)]
        return run(*arguments, DATAS3T_SERVER_URL=variable).stderr

    with ThreadPoolExecutor(len(cases)) as threads:  # each process retries for two seconds
        for stderr, (*_, used) in zip(threads.map(error_of, *zip(*cases, strict=True)), cases, strict=True):
            assert f"http://127.0.0.1:{used};" in stderr


def test_every_command_takes_the_server_url_and_its_ca() -> None:
    def without(command: click.Command, path: str) -> Iterator[str]:
        if not {"--server-url", "--ca-file"} <= {option for each in command.params for option in each.opts}:
            yield path
        for name, each in command.commands.items() if isinstance(command, click.Group) else ():
            yield from without(each, f"{path} {name}")

    assert list(without(cli, "datas3t")) == []


def test_help_and_version_go_to_standard_output(run: Run) -> None:
    for option in ("-h", "--help"):
        done = run("datarange", "pack", option)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: datas3t datarange pack [OPTIONS] SOURCE...\n")
    assert run("--version").stdout == f"datas3t {importlib.metadata.version('datas3t')}\n"


def test_help_does_not_import_slow_modules(run: Run) -> None:
    code = (
        "import sys; from datas3t.cli.main import run; run(['--help']); run(['datarange', 'upload-tar', '-h']);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"grpc", "google", "psycopg", "boto3", "numpy", "rich", "pycurl"} & set(done.stderr.split())


def test_a_traceback_is_printed_only_if_the_environment_asks_for_it(run: Run) -> None:
    pack = ("datarange", "pack", "--output", "a.tar", "missing")
    assert "Traceback" not in run(*pack).stderr
    done = run(*pack, DATAS3T_DEBUG="1")
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("Error: missing cannot be read: No such file or directory\n")


def test_file_names_need_not_be_valid_unicode(run: Run, tmp_path: Path) -> None:
    (tmp_path / "work/a").write_text("a")
    command = [sys.executable, "-m", "datas3t", "datarange", "pack", "--output", os.fsdecode(b"\xff.tar"), "a"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, check=False, cwd=tmp_path / "work", capture_output=True, env=environment)
    assert (done.returncode, done.stdout.partition(b": ")[0]) == (0, b"\xff.tar")


def test_nobody_answers_from_a_closed_standard_input(run: Run) -> None:
    command = [sys.executable, "-m", "datas3t", "datas3t", "clear", "--name", "x"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == (
        "Remove all datapoints of x? [y/N] \n"
        "Error: nobody answered, so nothing was changed; answer y, or give --force\n"
    )


def test_progress_bars_appear_on_a_terminal(run: Run, tmp_path: Path) -> None:
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
    assert b"97.7 KB of 97.7 KB" in shown
    assert result.startswith(b"a.tar: ")


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Return a function that starts a command, which the test then interrupts."""

    def datas3t(*arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "datas3t", *arguments],
            cwd=tmp_path / "work",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
        )

    return datas3t


def test_interrupted_transfers_resume_and_a_download_appears_only_when_complete(
    url: str, run: Run, start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    target = ("--datas3t", "d", "--server-url", url)
    assert run("datas3t", "add", "--name", "d", "--bucket", "local", "--server-url", url).returncode == 0
    big, back = tmp_path / "work/big.tar", tmp_path / "work/back.tar"
    write_archive(big, 1, 1, [1 << 20] * 60)

    upload = ("datarange", "upload-tar", "--file", "big.tar", *target)
    with start(*upload) as process:
        wait_until(lambda: process.poll() is not None or any(map(Path.is_file, (tmp_path / "state").rglob("*"))))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.startswith("Interrupted")
    assert err.count("\n") == 1
    assert "datapoints 1 to 60" in run(*upload).stdout

    span = ("--first-datapoint", "1", "--last-datapoint", "60", "--chunk-size", "65536", "--max-parallelism", "1")
    download = ("datarange", "download-tar", "--output", "back.tar", *span, *target)
    with start(*download) as process:
        wait_until(lambda: process.poll() is not None or (tmp_path / "work/.back.tar.datas3t-part").exists())
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not back.exists()
    assert run(*download).returncode == 0
    assert back.read_bytes() == big.read_bytes()
