"""What `datas3t.client` exports."""

import importlib.metadata
import subprocess
import sys

import pytest

import datas3t.client
from datas3t.client import Progress, pack


def test_every_exported_name_exists() -> None:
    assert [name for name in datas3t.client.__all__ if not hasattr(datas3t.client, name)] == []


def test_a_name_that_is_not_exported_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = datas3t.client.nothing  # type: ignore[attr-defined]


def test_the_version_is_that_of_the_distribution_and_is_looked_up_late() -> None:
    assert datas3t.client.__version__ == importlib.metadata.version("datas3t")
    program = "import datas3t.client, sys; print('importlib.metadata' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"


def test_pack_is_the_function_and_progress_the_type_of_a_callback() -> None:
    def callback(phase: str, current: int, total: int) -> None: ...

    checked: Progress = callback
    assert callable(pack)
    assert callable(checked)


def test_python_dash_m_runs_the_command_line() -> None:
    command = [sys.executable, "-m", "datas3t", "--version"]
    assert subprocess.check_output(command, text=True) == f"datas3t {datas3t.client.__version__}\n"
