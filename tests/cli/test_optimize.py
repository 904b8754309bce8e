"""Test `datas3t optimize`: the dry run, the merges, and how the daemon stops."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datas3t.client import Client
from tests.cli.conftest import Run
from tests.support.stack import signal_another_thread, wait_until
from tests.support.tars import archive, contents


@pytest.fixture
def server_with_small_dataranges(url: str, tmp_path: Path) -> str:
    """Return the URL of a server whose datas3t `many` has 6 small dataranges."""
    with Client(url) as client:
        client.add_datas3t("many", bucket="local")
        for number in range(6):
            path = tmp_path / f"{number}.tar"
            path.write_bytes(archive(1 + 10 * number, contents(number, 10, 2000)))
            client.upload_tar("many", path)
    return url


def test_a_dry_run_prints_the_merges_and_does_not_start_them(run: Run, server_with_small_dataranges: str) -> None:
    done = run("optimize", "--datas3t", "many", "--dry-run", "--server-url", server_with_small_dataranges)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("many: would merge 6 dataranges, datapoints 1 to 60, into one of ")
    assert "saves 10 objects, score " in done.stdout
    with Client(server_with_small_dataranges) as client:
        assert len(client.list_dataranges("many")) == 6


def test_small_dataranges_are_merged_and_then_there_is_nothing_to_merge(
    run: Run, server_with_small_dataranges: str
) -> None:
    with Client(server_with_small_dataranges) as client:
        before = [each.content for each in client.datas3t("many").scan()]
        assert run("optimize", "--all", "--server-url", server_with_small_dataranges).returncode == 0
        assert len(client.list_dataranges("many")) == 1
        assert [each.content for each in client.datas3t("many").scan()] == before
    again = run("optimize", "--datas3t", "many", "--server-url", server_with_small_dataranges)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "many: nothing to merge.\n")


def test_merges_are_made_pass_after_pass_until_nothing_is_left(run: Run, url: str, tmp_path: Path) -> None:
    with Client(url) as client:
        client.add_datas3t("apart", bucket="local")
        for first in (1, 2, 10, 11, 20, 21):
            path = tmp_path / f"{first}.tar"
            path.write_bytes(archive(first, contents(first, 1, 500)))
            client.upload_tar("apart", path)
        planned = run("optimize", "--datas3t", "apart", "--dry-run", "--max-operations", "1", "--server-url", url)
        assert len(planned.stdout.splitlines()) == 1
        done = run("optimize", "--datas3t", "apart", "--max-operations", "1", "--server-url", url)
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 3)
        assert [(each.first, each.last) for each in client.list_dataranges("apart")] == [(1, 2), (10, 11), (20, 21)]


def test_merges_below_the_minimum_score_are_skipped(run: Run, server_with_small_dataranges: str) -> None:
    done = run("optimize", "--datas3t", "many", "--min-score", "1000000", "--server-url", server_with_small_dataranges)
    assert (done.returncode, done.stderr) == (0, "many: nothing to merge.\n")


@pytest.mark.parametrize("arguments", [(), ("--all", "--datas3t", "x"), ("--all", "--interval", "soon")])
def test_unclear_arguments_are_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("optimize", *arguments).returncode == 2


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_merges_and_exits_cleanly_on_a_signal(
    server_with_small_dataranges: str, signum: signal.Signals, tmp_path: Path
) -> None:
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
        server_with_small_dataranges,
    ]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    with (
        Client(server_with_small_dataranges) as client,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as daemon,
    ):
        wait_until(lambda: len(client.list_dataranges("many")) == 1, what="the merge")
        signal_another_thread(daemon.pid, signum)
        assert daemon.wait(30) == 0
        assert daemon.stderr is not None
        assert daemon.stderr.read() == b""
