"""Test `make demo` on a small folder, with its own copy of the script and its own servers."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.stack import living_in

DEMO = Path(__file__).parents[2] / "demo/run.py"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return a copy of demo/run.py in an empty project folder."""
    (tmp_path / "demo").mkdir()
    return Path(shutil.copy(DEMO, tmp_path / "demo"))


def test_the_demo_compares_all_bytes_and_leaves_no_process_running(script: Path, tmp_path: Path) -> None:
    folder = tmp_path / "some files"
    folder.mkdir()
    for number in range(7):
        (folder / f"{number}.txt").write_bytes(bytes([number]) * number * 1000)
    done = subprocess.run(
        [sys.executable, script, folder], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "pushed 7 files, 20.5 KB, in 1 archive\n" in done.stdout
    assert "pushed 0 files, 0 B, in 0 archives; 7 unchanged\n" in done.stdout
    assert "# 2 files compared with what came back, byte for byte: all the same" in done.stdout
    assert "# 2 files found by their paths and compared: all the same" in done.stdout
    assert sorted(path.name for path in (tmp_path / ".demo").iterdir()) == ["pulled"]
    assert living_in(tmp_path / ".demo/data") == []

    compared = loaded(script).compared
    (folder / "2.txt").write_bytes(b"changed")
    assert compared(tmp_path / ".demo/pulled", folder, ["2.txt", "3.txt"]) == ["2.txt"]
    assert compared(tmp_path / ".demo/pulled", folder, ["3.txt", "4.txt"]) == ["4.txt", "2.txt"]


def test_a_missing_folder_is_an_error_that_names_it(script: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, script, tmp_path / "none"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"# {tmp_path / 'none'} is not a folder\n")


def test_make_passes_on_a_folder_name_with_quotes_and_spaces(tmp_path: Path) -> None:
    shutil.copy(DEMO.parents[1] / "Makefile", tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for made in (".venv/python", ".venv/up", "pyproject.toml"):
        (tmp_path / made).touch()
    python = tmp_path / ".venv/bin/python"
    python.write_text('#!/bin/sh\necho "$# $2"\n')
    python.chmod(0o755)
    for arguments, passed in ((['DIR=it\'s  two "words"'], '2 it\'s  two "words"\n'), ([], "1 \n")):
        done = subprocess.run(
            ["make", "-s", "-o", "pyproject.toml", "-o", ".venv/up", "demo", *arguments],
            check=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.stdout == passed


def loaded(script: Path) -> ModuleType:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("demo_run", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
