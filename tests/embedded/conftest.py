"""Data directories that have been used before, so that most starts need not create a cluster first."""

import subprocess
from pathlib import Path

import pytest

from datas3t.embedded.stack import services


@pytest.fixture(scope="session")
def used_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data directory of services that have run and were stopped."""
    data_dir = tmp_path_factory.mktemp("used") / "data"
    with services(data_dir, durable=False):
        pass
    return data_dir


@pytest.fixture
def data_dir(used_data_dir: Path, tmp_path: Path) -> Path:
    """Return a data directory with a cluster and its secrets, but without objects and ports."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    # Copying takes a tenth of the time that initdb does. cp keeps the account that PostgreSQL runs under.
    subprocess.run(["cp", "-a", used_data_dir / "postgres", used_data_dir / "secrets.json", data_dir], check=True)
    return data_dir


@pytest.fixture
def new_data_dir(tmp_path: Path) -> Path:
    """Return the path of a data directory that does not exist."""
    return tmp_path / "data"
