"""The examples of docs/operations.md for proxies, run unchanged except for ports, addresses and certificates."""

import contextlib
import re
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.client import Client
from datas3t.embedded.ports import free_ports
from datas3t.server.app.server import Server
from tests.client.archives import MIB, sample
from tests.client.calls.test_tls import certificate
from tests.support.serving import serving, settings_for
from tests.support.stack import tied, wait_until

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

PAGE = Path(__file__).parents[2] / "docs/operations.md"
NGINX = "daemon off; pid {0}/pid; error_log stderr; events {{}} http {{ access_log off; {1} {2} }}"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def server(services: "Services", database: str, tmp_path: Path) -> Iterator[Server]:
    with serving(settings_for(services, database, tmp_path, allowed_hosts=("data.example.com",))) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a certificate for localhost, which clients trust."""
    private, public = certificate()
    (tmp_path / "tls.key").write_bytes(private)
    (tmp_path / "tls.crt").write_bytes(public)
    (tmp_path / "tls.pem").write_bytes(public + private)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.crt"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def adapted(example: str, folder: Path, server: Server, port: int, s3: str = "") -> str:
    """Return the example for this port, server and S3, with the certificate in the folder."""
    replacements = [
        (r"(?<=listen |  bind ):?(443|80)\b", lambda found: found[0].replace(found[1], str(port))),
        (r"/etc/\w+/data\.example\.com", lambda _: str(folder / "tls")),
        (r"127\.0\.0\.1:8765", lambda _: server.url.removeprefix("http://")),
        (r"http://10\.0\.0\.5:9000", lambda _: s3),
    ]
    for pattern, replacement in replacements:
        example = re.sub(pattern, replacement, example)
    return example


@contextlib.contextmanager
def running(command: list[str], log: Path, ports: list[int]) -> Iterator[None]:
    """Run a proxy until the block ends, once it accepts connections at all ports."""
    with log.open("wb") as out, subprocess.Popen(tied(command), stdout=out, stderr=out) as process:
        try:
            for port in ports:
                wait_until(lambda port=port: process.poll() is not None or accepts(port))  # type: ignore[misc]
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.terminate()


def accepts(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def need(program: str) -> str:
    found = shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        pytest.skip(f"{program} is not installed; on Debian: apt-get install {program}")
    return found


def use(url: str, services: "Services", bucket: str, folder: Path, public_endpoint: str | None) -> None:
    """Do the main job through the proxy: over gRPC and REST, and over presigned URLs."""
    s3 = services.s3
    keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
    archive = sample(folder / "a.tar", 1, 21 * MIB, 100)
    with Client(url) as client:
        client.add_bucket("b", endpoint=s3.endpoint, bucket=bucket, public_endpoint=public_endpoint, **keys)
        client.add_datas3t("d", bucket="b")
        client.upload_tar("d", archive.path)
        assert client.datas3t("d").get_many([2, 1]) == [archive.contents[2], archive.contents[1]]
        assert 2 in client.datapoints_bitmap("d")  # a stream
        (segment,) = client.presign_download("d", 2, 2)
        assert segment.url.startswith(public_endpoint or s3.endpoint)
    trusted = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    for path, content in (("/readyz", b""), ("/api/v1/datas3ts", b'"datas3t_name":"d"')):
        request = urllib.request.Request(url + path, headers={"Host": "data.example.com"})
        with urllib.request.urlopen(request, timeout=20, context=trusted) as response:
            assert (response.status, content in response.read()) == (200, True)


def test_nginx_with_the_server_and_s3_behind_it(
    server: Server, services: "Services", bucket: str, folder: Path
) -> None:
    program = need("nginx")
    ports = free_ports(2)
    both, s3 = examples("nginx")[0], examples("nginx")[2]
    blocks = adapted(both, folder, server, ports[0]) + adapted(s3, folder, server, ports[1], services.s3.endpoint)
    temporary = "".join(f"{name}_temp_path {folder}/{name}; " for name in TEMPORARY)
    (folder / "nginx.conf").write_text(NGINX.format(folder, temporary, blocks))
    with running([program, "-c", str(folder / "nginx.conf"), "-p", str(folder)], folder / "log", ports):
        use(f"https://localhost:{ports[0]}", services, bucket, folder, f"https://localhost:{ports[1]}")


def test_haproxy(server: Server, services: "Services", bucket: str, folder: Path) -> None:
    program = need("haproxy")
    (port,) = free_ports(1)
    (example,) = examples("haproxy")
    (folder / "haproxy.cfg").write_text(adapted(example, folder, server, port))
    with running([program, "-db", "-f", str(folder / "haproxy.cfg")], folder / "log", [port]):
        use(f"https://localhost:{port}", services, bucket, folder, None)


def test_a_proxy_that_speaks_http_1_only_passes_rest_on_and_clients_of_grpc_get_one_line(
    server: Server, folder: Path
) -> None:
    program = need("nginx")
    (port,) = free_ports(1)
    temporary = "".join(f"{name}_temp_path {folder}/{name}; " for name in TEMPORARY)
    blocks = adapted(examples("nginx")[1], folder, server, port)
    (folder / "nginx.conf").write_text(NGINX.format(folder, temporary, blocks))
    url = f"http://localhost:{port}"
    with running([program, "-c", str(folder / "nginx.conf"), "-p", str(folder)], folder / "log", [port]):
        with urllib.request.urlopen(f"{url}/api/v1/buckets", timeout=20) as response:
            assert (response.status, response.read()) == (200, b"[]")
        command = [sys.executable, "-m", "datas3t", "bucket", "list", "--server-url", url]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert done.stderr.startswith("Error: ")
