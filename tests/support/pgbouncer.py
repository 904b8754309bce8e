"""PgBouncer in transaction mode in front of a real PostgreSQL, where its program is installed."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg

from datas3t.embedded.ports import free_ports
from tests.support.stack import tied, wait_until

MISSING = "PgBouncer is not installed (Debian: apt-get install pgbouncer)"
_NOBODY = "65534"  # PgBouncer does not run as root


def program() -> str | None:
    """Return the path of PgBouncer, or None if it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


@contextlib.contextmanager
def running(database: str, pool_size: int) -> Iterator[str]:
    """Yield the URL of a PgBouncer in front of the database, which keeps `pool_size` connections for all clients."""
    found = program()
    assert found is not None, MISSING
    server = urlsplit(database)
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="datas3t-pgbouncer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        password = unquote(server.password or "")
        (folder / "users").write_text(f'"{server.username}" "{password}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"""
            [databases]
            * = host={server.hostname} port={server.port}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = scram-sha-256
            auth_file = {folder}/users
            pool_mode = transaction
            default_pool_size = {pool_size}
            max_client_conn = 200
            """.replace("            ", "")
        )
        account = (_NOBODY, _NOBODY) if os.geteuid() == 0 else ()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                tied([found, folder / "pgbouncer.ini"], *account),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        url = server._replace(netloc=f"{server.netloc.rpartition('@')[0]}@127.0.0.1:{port}").geturl()
        try:
            wait_until(lambda: process.poll() is not None or _answers(url), what="PgBouncer")
            assert process.poll() is None, (folder / "log").read_text()
            yield url
        finally:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=5).close()
        return True
    return False
