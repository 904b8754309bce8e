"""A framework is imported only with the package that is named after it."""

import subprocess
import sys

import pytest

FRAMEWORKS = ["datasets", "fsspec", "grain", "lightning", "pyarrow", "ray", "torch", "torchdata"]


@pytest.mark.parametrize(
    "code", ["from datas3t.client import Client", "import datas3t.training", "import datas3t.cli.main"]
)
def test_nothing_else_imports_one(code: str) -> None:
    shown = f"{code}\nimport sys\nprint(*[name for name in {FRAMEWORKS} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
