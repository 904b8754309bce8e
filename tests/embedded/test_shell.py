"""`datas3t up` in a hostile shell, in a folder with an unusual name, and with other users on the machine.

One stack serves all tests of this file: its variables name other databases, stores and proxies.
"""

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from datas3t.client import Client, pack
from datas3t.embedded import accounts
from datas3t.embedded.seaweedfs import weed
from tests.embedded import neighbour
from tests.support.front import http_request
from tests.support.stack import Process, living_in, wait_until

# What a file system takes: PostgreSQL, SQL, TOML, URLs, shells, Go's flags and terminals give each of these a meaning.
ODD_NAME = "-a b,c;d'e\"f%g%20\\h$(i)`j`*?[k]{l}~#&<|>=:@!^ü\n\t\x1b[31mü日本" + os.fsdecode(b"\xff\xfe")
LONG_NAMES = ["n" * 250] * 5  # PostgreSQL takes paths up to 1,023 bytes, and a unix socket 107

_PROGRAM = """
import os, sys
from pathlib import Path
from datas3t.embedded.stack import up
sys.exit(up(Path(os.fsdecode(bytes.fromhex(sys.argv[1]))), sys.argv[2]))
"""

_NOWHERE = "http://127.0.0.1:9"
_SHELL = {
    "PGHOST": "/nonexistent",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "9",
    "PGDATABASE": "other",
    "PGUSER": "other",
    "PGPASSWORD": "wrong",
    "PGPASSFILE": "/nonexistent",
    "PGSERVICE": "missing",
    "PGSERVICEFILE": "/nonexistent",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/nonexistent",
    "PGSSLNEGOTIATION": "direct",
    "PGGSSENCMODE": "require",
    "PGCHANNELBINDING": "require",
    "PGREQUIREAUTH": "none",
    "PGOPTIONS": "-c nonsense=1",
    "PGCONNECT_TIMEOUT": "nonsense",
    "PGCLIENTENCODING": "nonsense",
    "PGTARGETSESSIONATTRS": "standby",
    "PGTZ": "nonsense",
    "PGDATA": "/nonexistent",
    "AWS_PROFILE": "missing",
    "AWS_DEFAULT_PROFILE": "missing",
    "AWS_ACCESS_KEY_ID": "wrong",
    "AWS_SECRET_ACCESS_KEY": "wrong",
    "AWS_SESSION_TOKEN": "wrong",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_ENDPOINT_URL": _NOWHERE,
    "AWS_ENDPOINT_URL_S3": _NOWHERE,
    "AWS_DEFAULT_REGION": "nonsense",
    "AWS_RETRY_MODE": "nonsense",
    "AWS_DEFAULTS_MODE": "nonsense",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_MAX_ATTEMPTS": "nonsense",
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "nonsense",
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"), _NOWHERE),
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), _NOWHERE),
    **dict.fromkeys(("no_proxy", "NO_PROXY", "no_grpc_proxy"), ""),
    "LC_ALL": "C",
    "TMPDIR": "/nonexistent",
    "SSL_CERT_FILE": "/nonexistent",
    "AWS_CA_BUNDLE": "/nonexistent",
    "TZ": "nonsense",
    "WEED_GRPC_CA": "/nonexistent",
    "WEED_JWT_SIGNING_KEY": "wrong",
    "XDG_CACHE_HOME": "/nonexistent",
}


@dataclass
class Up:
    """A running `datas3t up`, its data directory and the content of stack.json."""

    process: Process
    data_dir: Path
    stack: dict[str, Any]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Run `datas3t up` with a relative path through a link, in a hostile shell."""
    folder = tmp_path_factory.mktemp("shell")
    data_dir = folder.joinpath("target", ODD_NAME, *LONG_NAMES, "data")
    data_dir.parent.mkdir(parents=True)
    (folder / "link").symlink_to(folder / "target", target_is_directory=True)
    path = os.path.relpath(folder.joinpath("link", ODD_NAME, *LONG_NAMES, "data"))
    process = Process(["-c", _PROGRAM, os.fsencode(path).hex(), "127.0.0.1:0"], folder / "up.out", _SHELL)
    try:
        file = data_dir / "stack.json"
        wait_until(lambda: file.exists() or not process.running, seconds=60, what="stack.json")
        assert process.running, process.log
        yield Up(process, data_dir, json.loads(file.read_text()))
    finally:
        if process.running:
            process.terminate()


def test_a_hostile_shell_and_an_odd_folder_stop_nothing(
    up: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way of a datapoint, with a client that has the same shell."""
    for name, value in _SHELL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DATAS3T_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "first").write_bytes(b"content")
    with Client(up.stack["server_url"]) as client:
        client.add_datas3t("kept", bucket="local")
        handle = client.datas3t("kept")
        pack([tmp_path / "first"], tmp_path / "a.tar")
        handle.upload_tar(tmp_path / "a.tar")
        assert handle.get(1) == b"content"
    wait_until(lambda: "Ctrl-C" in up.process.log)
    assert "\x1b" not in up.process.log
    assert up.process.log.count("datas3t is ready") == 1


def test_no_other_user_reads_or_changes_anything(up: Up) -> None:
    ports, sockets = listening(up.data_dir)
    assert set(ports) >= {"postgres", "s3", "master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc"}
    before = objects(up)
    closed = {name: port for name, port in ports.items() if name != "postgres"}
    with other_users_weed() as program:
        doors = {
            "weed": str(program),
            "master": f"127.0.0.1:{ports['master']}.{ports['master_grpc']}",
            "ports": closed,
            "postgres": ports["postgres"],
            # Without root the other user is this one, who has no certificate and no password, but may open files.
            "sockets": [] if os.geteuid() else sockets,
            "files": [] if os.geteuid() else [str(path) for path in files(up.data_dir)],
        }
        found = as_other_user(doors)
    answered = {door for door, status in found["http"].items() if 200 <= status < 400}
    assert answered <= _STATUS_PAGES
    assert not [name for name, statuses in found["changes"].items() if any(200 <= each < 400 for each in statuses)]
    grpc_ports = {str(port) for name, port in ports.items() if name.endswith("_grpc")}
    codes = {door: codes for door, codes in found["grpc"].items() if door.split()[0] in grpc_ports}
    assert len(codes) == len(grpc_ports) * len(neighbour.METHODS)
    assert {code for each in codes.values() for code in each} == {"UNAVAILABLE"}
    assert "OK" not in {code for each in found["grpc"].values() for code in each}
    assert "volume" not in found["shell"].replace("volume.list", "")
    assert "kept" not in found["shell"]
    assert not [path for path, connected in found["sockets"].items() if connected]
    assert found["postgres"] == [False, False]
    assert not [path for path, readable in found["files"].items() if readable]
    assert objects(up) == before


# SeaweedFS has no switch for these. docs/secrets.md says what they show.
_STATUS_PAGES = frozenset(
    ("master /", "master /cluster/status", "master /ui/index.html", "volume /status", "s3 /status", "admin /metrics")
)


def test_status_pages_show_no_object_and_no_secret(up: Up) -> None:
    ports, _ = listening(up.data_dir)
    assert objects(up)
    secrets = [up.stack["s3"]["secret_key"], up.stack["s3"]["access_key"], up.stack["encryption_key"]]
    for name, path in (page.split() for page in _STATUS_PAGES):
        if name in ports:
            response = http_request(f"http://127.0.0.1:{ports[name]}", "GET", path)
            assert not [word for word in ("kept", *secrets) if word.encode() in response.body]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change the account")
def test_under_root_postgres_has_an_account_of_its_own(up: Up) -> None:
    users = {process.username() for process in living_in(up.data_dir) if process.name() == "postgres"}
    assert users == {accounts.NAME}
    assert {path.stat().st_uid for path in (up.data_dir / "postgres").rglob("*")} == {
        pwd.getpwnam(accounts.NAME).pw_uid
    }


def listening(data_dir: Path) -> tuple[dict[str, int], list[str]]:
    """Return the ports, by name, and the unix sockets that the services listen on."""
    names = {port: name for name, port in json.loads((data_dir / "ports.json").read_text()).items()}
    ports, sockets = {}, set()
    for process in living_in(data_dir):
        with contextlib.suppress(psutil.Error):
            for each in process.net_connections("inet"):
                if each.status == psutil.CONN_LISTEN:
                    assert each.laddr.ip == "127.0.0.1"
                    ports[names.get(each.laddr.port, f"unknown-{each.laddr.port}")] = each.laddr.port
            sockets |= {str(each.laddr) for each in process.net_connections("unix")}
    return ports, sorted(path for path in sockets if path.startswith("/"))


@contextlib.contextmanager
def other_users_weed() -> Iterator[Path]:
    """Yield the path of weed's binary as every user can execute it."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o755)
        try:
            os.link(weed(), folder / "weed")
        except OSError:  # another file system
            shutil.copy2(weed(), folder / "weed")
        yield folder / "weed"
    finally:
        shutil.rmtree(folder)


def as_other_user(doors: dict[str, Any]) -> dict[str, Any]:
    """Return what `neighbour` found behind these doors."""
    done = subprocess.run(
        [sys.executable, Path(neighbour.__file__)], input=json.dumps(doors), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def files(data_dir: Path) -> list[Path]:
    """Return all files of a data directory."""
    return [path for path in data_dir.rglob("*") if path.is_file()]


def objects(up: Up) -> list[tuple[str, int]]:
    """Return the names and sizes of all objects."""
    from datas3t.server.s3.clients import CONFIG, plain_client
    from datas3t.server.s3.locations import Location

    s3 = up.stack["s3"]
    location = Location(s3["endpoint"], s3["bucket"], "us-east-1", s3["access_key"], s3["secret_key"])
    with contextlib.closing(plain_client(location, CONFIG)) as client:
        client.put_object(Bucket=s3["bucket"], Key="kept", Body=b"content")
        found = client.list_objects_v2(Bucket=s3["bucket"])["Contents"]
    return [(each["Key"], each["Size"]) for each in found]
