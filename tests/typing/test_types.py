"""The public types as mypy sees them, and a check that mypy reports errors at all."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_REVEALED = """
import datas3t.client
from datas3t.client import Client
client = Client()
reveal_type(client.list_datas3ts())
reveal_type(client.upload_tar("a", "b"))
images = client.datas3t("images")
reveal_type(images.keys)
reveal_type(images.get(1))
reveal_type(images.get_many([1]))
reveal_type(next(iter(images.scan())))
reveal_type(next(iter(images.scan())).content)
reveal_type(images.upload_tar("b"))
reveal_type(datas3t.client.__version__)
"""
_TYPES = [
    "list[datas3t.client._calls.datas3ts.Datas3tInfo]",
    "datas3t.client._transfers.upload.Uploaded",
    "pyroaring.BitMap64",
    "bytes",
    "list[bytes]",
    "tuple[int, str, bytes, fallback=datas3t.client._reading.datapoint.Datapoint]",
    "bytes",
    "datas3t.client._transfers.upload.Uploaded",
    "str",
]


def run_mypy(code: str, folder: Path) -> str:
    """Return what mypy prints about a program."""
    file = folder / "program.py"
    file.write_text(code)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(file)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT).stdout


def test_the_public_types_are_as_documented(tmp_path: Path) -> None:
    shown = run_mypy(_REVEALED, tmp_path)
    assert [
        line.partition('Revealed type is "')[2].rstrip('"') for line in shown.splitlines() if "Revealed" in line
    ] == _TYPES


def test_a_wrong_assignment_is_reported(tmp_path: Path) -> None:
    assert "Incompatible types in assignment" in run_mypy(
        "from datas3t.client import Client\nx: int = Client().url\n", tmp_path
    )
    assert "Incompatible types in assignment" in run_mypy(
        "from datas3t.archive import parts\nx: str = parts.MIN_PART\n", tmp_path
    )
