"""Shell completion: each shell's script, and what it completes, with a server, without one and with a slow one."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datas3t.client import Client
from tests.cli.conftest import Run

CASES = [  # what is typed, and what completes it
    ("datas3t bu", ["bucket"]),
    ("datas3t opt", ["optimize"]),  # and not optimize-all, a spelling that help does not list
    ("datas3t cat-range photos 1 2 --dec", ["--decompress"]),
    ("datas3t datas3t clear --name ph", ["photos", "phones"]),
    ("datas3t datarange upload-tar --datas3t phot", ["photos"]),
    ("datas3t datarange pack --after v", ["videos"]),
    ("datas3t cat-range vi", ["videos"]),
    ("datas3t datas3t add --name x --bucket lo", ["local"]),
    ("datas3t bucket delete --name l", ["local"]),
    ("datas3t datas3t add --name ph", []),  # a new name
]


def complete(run: Run, typed: str, **environment: str) -> list[str]:
    """Return the completions of a line, as the bash script asks for them."""
    words = typed.split()
    done = run(COMP_WORDS=typed, COMP_CWORD=str(len(words) - 1), _DATAS3T_COMPLETE="bash_complete", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.fixture
def named(url: str) -> str:
    """Return the URL of a server with three datas3ts."""
    with Client(url) as client:
        for name in ("phones", "photos", "videos"):
            client.add_datas3t(name, bucket="local")
    return url


def test_commands_options_and_names_are_completed(run: Run, named: str) -> None:
    for typed, expected in CASES:
        assert sorted(complete(run, typed, DATAS3T_SERVER_URL=named)) == sorted(expected), typed
    typed = f"datas3t --server-url {named} cat-range phot"
    assert complete(run, typed) == ["photos"]


def test_a_server_that_is_away_or_does_not_respond_completes_nothing_soon(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts and says nothing
        for url in ("http://127.0.0.1:1", f"http://127.0.0.1:{silent.getsockname()[1]}", "nonsense"):
            assert complete(run, "datas3t cat-range p", DATAS3T_SERVER_URL=url) == []


@pytest.mark.timing
def test_a_silent_server_is_waited_for_a_second(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        complete(run, "datas3t cat-range p", DATAS3T_SERVER_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_completes_in_the_shell(run: Run, named: str, tmp_path: Path, shell: str) -> None:
    script = run("completion", shell)
    assert (script.returncode, script.stderr) == (0, "")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script.stdout)
    (tmp_path / "datas3t").write_text(f'#!/bin/sh\nexec {sys.executable} -m datas3t "$@"\n')
    (tmp_path / "datas3t").chmod(0o755)
    ask = {
        "bash": 'source script; COMP_WORDS=(datas3t cat-range ph); COMP_CWORD=2; _datas3t_completion datas3t "" "";'
        ' echo "${COMPREPLY[@]}"',
        # zsh completes only on a terminal: its own functions are replaced by ones that print what they are given.
        "zsh": "compdef() { :; }; source script; words=(datas3t cat-range ph); CURRENT=3;"
        ' compadd() { echo "${(P)@[-1]}"; }; _datas3t_completion',
        "fish": 'source script; complete -C "datas3t cat-range ph"',
    }[shell]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DATAS3T_SERVER_URL": named, "HOME": str(tmp_path)}
    done = subprocess.run(
        [shell, "-c", ask], check=True, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
    )
    assert sorted(done.stdout.split()) == ["phones", "photos"], done.stderr
