"""A program that tries, as another user of the machine, every door to the services of a data directory.

It reads the doors as JSON from standard input and prints what it got as JSON. Everything is imported before the user
changes, because another user may not read the environment that the tests run in.
"""

import contextlib
import http.client
import json
import os
import pwd
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import psycopg

PATHS = (
    "/",
    "/col/delete?collection=datas3t",
    "/vol/vacuum?garbageThreshold=0.01",
    "/vol/status",
    "/vol/grow?count=1",
    "/dir/assign",
    "/dir/lookup?volumeId=1",
    "/dir/status",
    "/submit",
    "/cluster/status",
    "/stats/disk",
    "/status",
    "/metrics",
    "/debug/pprof/",
    "/ui/index.html",
    "/buckets/?limit=10",
    "/buckets/datas3t/",
    "/buckets/datas3t/kept",
    "/buckets/datas3t/kept?metadata=true",
    "/datas3t/kept",
    "/datas3t?list-type=2",
    "/1,0000000000",
    "/api/cluster/topology",
)
METHODS = (
    "/master_pb.Seaweed/VolumeList",
    "/master_pb.Seaweed/CollectionDelete",
    "/volume_server_pb.VolumeServer/VolumeServerStatus",
    "/filer_pb.SeaweedFiler/GetFilerConfiguration",
    "/filer_pb.SeaweedFiler/DeleteEntry",
    "/messaging_pb.SeaweedS3IamCache/ListUsers",
    "/worker_pb.WorkerService/WorkerStream",
)
_SECONDS = 3.0


def main() -> None:
    """Try all doors, as `nobody` if this process is root."""
    doors = json.load(sys.stdin)
    # These import what they need at their first use.
    socket.getaddrinfo("127.0.0.1", 1)
    grpc.secure_channel("127.0.0.1:1", grpc.ssl_channel_credentials()).close()
    if os.geteuid() == 0:
        entry = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    shell = subprocess.Popen(
        [doors["weed"], "shell", f"-master={doors['master']}"],
        cwd="/",
        env={"HOME": "/nonexistent"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert shell.stdin is not None
    shell.stdin.write("volume.list\nfs.ls /buckets\n")
    shell.stdin.flush()
    ports = list(doors["ports"].values())
    found = {
        "http": {f"{name} {path}": _get(port, path) for name, port in doors["ports"].items() for path in PATHS},
        "changes": {name: _change(port) for name, port in doors["ports"].items()},
        "grpc": {f"{port} {method}": _call(port, method) for port in ports for method in METHODS},
        "sockets": {path: _connect(path) for path in doors["sockets"]},
        "postgres": [_postgres(doors["postgres"], password) for password in ("", "postgres")],
        "files": {path: _read(Path(path)) for path in doors["files"]},
    }
    with contextlib.suppress(subprocess.TimeoutExpired):
        shell.wait(2)
    shell.kill()
    found["shell"] = shell.communicate()[0]
    json.dump(found, sys.stdout)


def _get(port: int, path: str) -> int:
    """Return the status of a GET, or 0 if there is no HTTP response."""
    return _request(port, "GET", path, b"")


def _change(port: int) -> list[int]:
    """Return the statuses of requests that would change something."""
    return [
        _request(port, "POST", "/submit", b"content"),
        _request(port, "PUT", "/buckets/datas3t/kept", b"other content"),
        _request(port, "DELETE", "/buckets/datas3t/kept", b""),
        _request(port, "DELETE", "/buckets/datas3t/?recursive=true", b""),
        _request(port, "POST", "/1,01637037d6", b"content"),
        _request(port, "DELETE", "/datas3t/kept", b""),
    ]


def _request(port: int, method: str, path: str, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _call(port: int, method: str) -> list[str]:
    """Return the codes of a call without TLS, and of one with TLS and without a certificate that the port knows."""
    codes = []
    for channel in (
        grpc.insecure_channel(f"127.0.0.1:{port}"),
        grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(_presented(port))),
    ):
        with channel:
            untyped: Any = channel.unary_unary(method)
            call = untyped.future(b"", timeout=_SECONDS)
            codes.append(call.code().name)
    return codes


def _presented(port: int) -> bytes | None:
    """Return the certificate that a port presents, to be trusted: the port is to refuse us, not we the port."""
    try:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=_SECONDS).encode()
    except OSError:
        return None


def _connect(path: str) -> bool:
    """Return whether a unix socket can be connected to."""
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(path)
        return True
    return False


def _postgres(port: int, password: str) -> bool:
    """Return whether PostgreSQL lets us in."""
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(
            host="127.0.0.1", port=port, user="postgres", password=password, dbname="postgres", connect_timeout=5
        ).close()
        return True
    return False


def _read(path: Path) -> bool:
    """Return whether a file can be read."""
    with contextlib.suppress(OSError):
        path.read_bytes()
        return True
    return False


if __name__ == "__main__":
    main()
