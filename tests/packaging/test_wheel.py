"""The wheel that users install: it contains all packages, and its client works without the optional dependencies."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(build, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_has_all_packages_and_no_init_of_the_namespace(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "datas3t/__init__.py" not in names
    for package in ("archive", "cli", "client", "embedded", "local", "server", "transport", "v1"):
        assert f"datas3t/{package}/__init__.py" in names
        assert f"datas3t/{package}/py.typed" in names
    assert "datas3t/server/db/migrations/0001_tables.sql" in names
    assert "datas3t/v1/datarange.proto" in names
    assert not [name for name in names if name.startswith(("tests", "bench", "docs"))]


def test_no_source_root_has_an_init_of_the_namespace() -> None:
    assert not list(ROOT.glob("*/datas3t/__init__.py"))


@pytest.mark.timeout(300)
def test_the_wheel_without_extras_has_a_client_and_a_command_line(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv/bin/python"
    # By the pip of this environment, and without compiling all modules of all packages: few of them are imported here.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", str(wheel)], check=True, cwd=tmp_path)
    code = "from datas3t.client import Client; import datas3t.archive.tar; Client('http://localhost:1').close()"
    subprocess.run([python, "-W", "error", "-c", code], check=True, cwd=tmp_path)
    for command in ([str(tmp_path / "venv/bin/datas3t")], [str(python), "-m", "datas3t"]):
        done = subprocess.run([*command, "--help"], check=True, capture_output=True, text=True, cwd=tmp_path)
        assert "upload" in done.stdout or "datarange" in done.stdout
    missing = subprocess.run(
        [str(python), "-m", "datas3t", "server", "--db-url", "postgres://localhost/none", "--encryption-key", "YQ=="],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert missing.returncode == 1
    assert missing.stderr.startswith("Error: ")
    assert "datas3t[server]" in missing.stderr
    assert "Traceback" not in missing.stderr
