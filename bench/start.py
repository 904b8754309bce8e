"""What a start costs: CPU seconds of commands and imports, and the tree of imports by cost.

    PYTHONPATH=. python bench/start.py [--rounds 10] [--tree MODULE] [--server-url URL] [--db-url URL]

Each row is the least of several rounds, which take turns, so that a busy machine spoils all rows alike. `server` is a
server process from its start until it responds on /readyz; it needs a database, `--db-url`.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from datas3t.embedded.ports import free_ports

_COMMANDS = {
    "an empty program": ["-c", "pass"],
    "datas3t --version": ["-m", "datas3t", "--version"],
    "datas3t --help": ["-m", "datas3t", "--help"],
    "datas3t bucket list": ["-m", "datas3t", "bucket", "list"],
    "import datas3t.client": ["-c", "import datas3t.client"],
    "import Client": ["-c", "from datas3t.client import Client"],
    "import the server": ["-c", "import datas3t.server.app.server"],
    "import the parent of workers": ["-c", "import datas3t.server.app.parent"],
}
_LINE = re.compile(r"import time: +(\d+) \| +(\d+) \| ( *)(\S+)")
_SHOWN_SHARE = 0.02  # of the whole import, below which a module is not shown


class Import(NamedTuple):
    """A module's name, how many microseconds its import took, and the modules that it imported."""

    name: str
    microseconds: int
    children: "list[Import]"


def tree(module: str) -> list[Import]:
    """Return the imports of a module as Python reports them."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    reported = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    pending: dict[int, list[Import]] = {}  # by depth: what has no parent yet, which is reported after its children
    for _own, total, indent, name in _LINE.findall(reported):
        depth = len(indent) // 2
        children = pending.pop(depth + 1, [])
        pending.setdefault(depth, []).append(Import(name, int(total), children))
    return [each for each in pending.get(0, []) if each.name == module]


def show(imports: Sequence[Import], least: float, indent: str = "") -> None:
    """Print imports of at least so many microseconds, the most expensive first."""
    for each in sorted(imports, key=lambda each: -each.microseconds):
        if each.microseconds >= least:
            print(f"{each.microseconds / 1000:8.1f} ms  {indent}{each.name}")
            show(each.children, least, f"{indent}  ")


def cpu_of(process: "subprocess.Popen[bytes]") -> float:
    """Wait for a process, and return the CPU seconds of it."""
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return used.ru_utime + used.ru_stime


def command(arguments: Sequence[str], environment: dict[str, str]) -> float:
    """Run a Python program, and return its CPU seconds."""
    quiet = subprocess.DEVNULL
    return cpu_of(
        subprocess.Popen([sys.executable, *arguments], stdout=quiet, stderr=quiet, env={**os.environ, **environment})
    )


def server(db_url: str, folder: Path) -> float:
    """Return the CPU seconds of a server until it is ready."""
    port = free_ports(1)[0]
    environment = {"DB_URL": db_url, "ENCRYPTION_KEY": "a2V5", "CACHE_DIR": str(folder), "ADDR": f"127.0.0.1:{port}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "datas3t", "server"], stderr=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            break
        time.sleep(0.02)
    if process.poll() is not None:
        raise SystemExit("the server did not start; run it by hand to see why")
    process.kill()
    return cpu_of(process)


def main() -> None:
    """Print the table and the tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tree", default="datas3t.client.client", help="the module whose imports are shown")
    parser.add_argument("--server-url", help="a running server, for `bucket list`; otherwise that row is left out")
    parser.add_argument("--db-url", help="a database, for the start of a server; otherwise that row is left out")
    arguments = parser.parse_args()
    environment = {"DATAS3T_SERVER_URL": arguments.server_url or ""}
    rows: dict[str, Callable[[], float]] = {
        name: partial(command, line, environment)
        for name, line in _COMMANDS.items()
        if arguments.server_url or name != "datas3t bucket list"
    }
    with tempfile.TemporaryDirectory() as folder:
        if arguments.db_url:
            rows["datas3t server, until ready"] = partial(server, arguments.db_url, Path(folder))
        least = dict.fromkeys(rows, float("inf"))
        for _ in range(arguments.rounds):
            for name, measure in rows.items():
                least[name] = min(least[name], measure())
    for name, seconds in least.items():
        print(f"{seconds:8.3f} s   {name}")
    print()
    found = tree(arguments.tree)
    show(found, _SHOWN_SHARE * sum(each.microseconds for each in found))


if __name__ == "__main__":
    main()
