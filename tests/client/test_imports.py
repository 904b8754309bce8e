"""What a start imports: the modules, not the time, which depends on the machine. `bench/start.py` measures the time."""

import subprocess
import sys

import pytest

_HEAVY = {"aiohttp", "boto3", "botocore", "grpc", "google.protobuf", "numpy", "psycopg"}
_HEAVY |= {"pyarrow", "pycurl", "pyroaring", "rich"}
_SERVER = {"aiohttp", "boto3", "botocore", "psycopg", "prometheus_client", "datas3t.server"}
_RUN = """
import sys
from contextlib import redirect_stdout, redirect_stderr
from io import StringIO
with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
    {code}
print(*sys.modules)
"""


def imported(code: str) -> set[str]:
    """Return the modules that a new process has imported after some code."""
    done = subprocess.run([sys.executable, "-c", _RUN.format(code=code)], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "left_out"),
    [
        ("import datas3t.client", _HEAVY | {"asyncio"}),
        (
            "from datas3t.client import Client; Client('http://localhost:1')",
            _SERVER | {"numpy", "pyarrow", "stamina", "rich"},
        ),
        ("from datas3t.cli.main import run; run(['--help'])", _HEAVY | {"asyncio", "datas3t.client"}),
        ("from datas3t.cli.main import run; run(['--version'])", _HEAVY | {"asyncio", "datas3t.client"}),
        (
            "from datas3t.cli.main import run; run(['bucket', 'list', '--server-url', 'ftp://x'])",
            _SERVER | {"numpy", "stamina"},
        ),
        ("import datas3t.server.app.server", {"boto3", "botocore", "numpy", "datas3t.client.client", "stamina"}),
        ("import datas3t.server.app.parent", {"aiohttp", "boto3", "grpc", "prometheus_client", "psycopg_pool"}),
    ],
    ids=["client", "Client", "help", "version", "bucket list", "server", "parent of workers"],
)
def test_a_start_imports_only_what_it_needs(code: str, left_out: set[str]) -> None:
    assert sorted(imported(code) & left_out) == []


def test_every_public_name_can_be_imported() -> None:
    code = "from datas3t.client import *; import datas3t.client as c; assert set(c.__all__) <= set(dir(c))"
    assert "grpc" in imported(code)
