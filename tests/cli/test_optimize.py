"""`datas3t optimize`: what it would do, what it does, and how the daemon ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datas3t.client import Client
from tests.cli.conftest import Run
from tests.support.stack import wait_until
from tests.support.tars import archive, contents


@pytest.fixture
def many(url: str, tmp_path: Path) -> str:
    """A datas3t `many` of 6 small dataranges."""
    with Client(url) as client:
        client.add_datas3t("many", bucket="local")
        for number in range(6):
            path = tmp_path / f"{number}.tar"
            path.write_bytes(archive(1 + 10 * number, contents(number, 10, 2000)))
            client.upload_tar("many", path)
    return url


def test_a_dry_run_shows_what_would_be_done_moved_and_saved_and_does_nothing(run: Run, many: str) -> None:
    done = run("optimize", "--datas3t", "many", "--dry-run", "--server-url", many)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("many: would merge 6 dataranges, datapoints 1 to 60, into one of ")
    assert "moved, 10 objects less, score " in done.stdout
    with Client(many) as client:
        assert len(client.list_dataranges("many")) == 6


def test_what_is_worth_it_is_merged_and_then_there_is_nothing_to_do(run: Run, many: str) -> None:
    with Client(many) as client:
        before = [each.content for each in client.datas3t("many").scan()]
        assert run("optimize", "--all", "--server-url", many).returncode == 0
        assert len(client.list_dataranges("many")) == 1
        assert [each.content for each in client.datas3t("many").scan()] == before
    again = run("optimize", "--datas3t", "many", "--server-url", many)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "many: nothing to do.\n")


def test_a_higher_score_leaves_them_alone(run: Run, many: str) -> None:
    done = run("optimize", "--datas3t", "many", "--min-score", "1000000", "--server-url", many)
    assert (done.returncode, done.stderr) == (0, "many: nothing to do.\n")


@pytest.mark.parametrize("arguments", [(), ("--all", "--datas3t", "x"), ("--all", "--interval", "soon")])
def test_what_to_optimize_must_be_clear(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("optimize", *arguments).returncode == 2


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_merges_and_ends_cleanly_when_told(many: str, signum: signal.Signals, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "datas3t",
        "optimize",
        "--all",
        "--daemon",
        "--interval",
        "1h",
        "--server-url",
        many,
    ]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    with (
        Client(many) as client,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as daemon,
    ):
        wait_until(lambda: len(client.list_dataranges("many")) == 1, what="the merge")
        daemon.send_signal(signum)
        assert daemon.wait(30) == 0
        assert daemon.stderr is not None
        assert daemon.stderr.read() == b""
