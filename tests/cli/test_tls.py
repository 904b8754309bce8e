"""The command line and a server of several processes, with TLS."""

import json
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cli.conftest import Run
from tests.support.certificates import Authority
from tests.support.stack import ServerProcess, wait_until

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


def test_commands_reach_a_server_of_several_processes_over_tls_which_renews_its_certificate(
    services: "Services", database: str, tmp_path: Path, run: Run
) -> None:
    authority = Authority()
    trusted = str(authority.write(tmp_path / "ca.pem"))
    files = authority.pair(tmp_path)
    environment = {
        "WORKERS": "2",
        "GRPC_ADDR": "127.0.0.1:0",
        "TLS_CERT": str(files.cert),
        "TLS_KEY": str(files.key),
    }
    server = ServerProcess(tmp_path, database, services.encryption_key, environment=environment)
    try:
        wait_until(lambda: not server.running or "workers serve" in server.log, 60, "the workers")
        assert f"listening on https://127.0.0.1:{server.port}" in server.log
        grpc_port = re.findall(r"for gRPC alone on port (\d+)", server.log)[-1]
        # The option works before and after the sub-command, and the variable without it.
        one, alone = f"https://localhost:{server.port}", f"https://localhost:{grpc_port}"
        listings = [
            run("--ca-file", trusted, "--server-url", one, "bucket", "list", "--json"),
            run("bucket", "list", "--json", "--ca-file", trusted, "--server-url", alone),
            run("bucket", "list", "--json", DATAS3T_CA_FILE=trusted, DATAS3T_SERVER_URL=one),
        ]
        assert [json.loads(each.stdout) for each in listings] == [[]] * 3
        refused = run("--server-url", one, "bucket", "list")
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"Error: the certificate of the server at {one} is not trusted;")
        assert refused.stderr.count("\n") == 1
        # Every worker reads the new files.
        before = ssl.get_server_certificate(("127.0.0.1", server.port))
        authority.pair(tmp_path)
        wait_until(lambda: server.log.count("certificate was read again") == 2, 20, "both workers")
        assert ssl.get_server_certificate(("127.0.0.1", server.port)) != before
        assert server.terminate() == 0
    finally:
        server.kill()


def test_a_key_that_several_processes_cannot_read_is_one_line(
    services: "Services", database: str, tmp_path: Path, run: Run
) -> None:
    files = Authority().pair(tmp_path)
    files.key.write_text("hush")
    done = run(
        "server",
        *("--tls-cert", str(files.cert), "--tls-key", str(files.key), "--addr", "127.0.0.1:0"),
        *("--workers", "2", "--cache-dir", str(tmp_path / "cache")),
        DB_URL=database,
        ENCRYPTION_KEY=services.encryption_key,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"Error: {files.key} has no private key in PEM format; correct --tls-key or TLS_KEY"
    )
    assert "hush" not in done.stderr
    done = run("server", "--tls-cert", str(files.cert), DB_URL=database, ENCRYPTION_KEY=services.encryption_key)
    assert done.returncode == 2
    assert "TLS needs a certificate and its key; set --tls-cert and --tls-key" in done.stderr
