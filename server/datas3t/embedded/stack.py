"""PostgreSQL and SeaweedFS in one data directory, and for `datas3t up` also the server."""

import contextlib
import itertools
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from datas3t.embedded import StackError, ports
from datas3t.embedded.data_dir import load_secrets, locked, write_private
from datas3t.embedded.disk import DiskWatch, full_disk_named
from datas3t.embedded.postgres import Postgres
from datas3t.embedded.seaweedfs import SeaweedFS
from datas3t.embedded.signals import until_signalled
from datas3t.local import folders
from datas3t.text import escaped

if TYPE_CHECKING:
    from datas3t.server.app.server import Server
    from datas3t.server.settings import Address

BUCKET = "datas3t"
DATABASE = "datas3t"
BUCKET_CONFIGURATION = "local"
STACK_FILE = "stack.json"

_POLL_SECONDS = 0.2  # between checks that the services still run
_DISK_EVERY = 5  # the number of these checks between two checks of the logs and the disk

_DRAIN = timedelta(seconds=10)
_STOP_SECONDS = 1.5  # after the time to drain, for the server to stop; PostgreSQL and SeaweedFS are stopped then

# Settings of PostgreSQL's clients and of the AWS command line. They are for other databases and stores.
_FOREIGN = ("PG", "AWS_")
_KEPT = ("AWS_CA_BUNDLE",)  # also used for the endpoints of bucket configurations
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXY_EXCEPTIONS = ("no_proxy", "NO_PROXY")

_READY = """\
datas3t is ready at {url}

Next, in another terminal, with a FOLDER of files:

  export DATAS3T_SERVER_URL={url}
  datas3t datas3t add --name first --bucket local
  datas3t push --datas3t first FOLDER
  datas3t datarange list --datas3t first

Addresses and keys for scripts: {data_dir}/{stack_file}
Ctrl-C stops everything; the data stays in {data_dir}\
"""
_ASKS = """
Callers need the token in that file. Without --data-dir, commands of the same user find it there by themselves.\
"""


@dataclass(frozen=True)
class S3:
    """The bucket of the services. The endpoint is the same at every start in a data directory."""

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


@dataclass(frozen=True)
class Services:
    """The running services, with their addresses and keys. Tests stop, kill and restart the two daemons."""

    data_dir: Path
    db_url: str = field(repr=False)
    encryption_key: str = field(repr=False)
    s3: S3
    postgres: Postgres = field(repr=False)
    seaweedfs: SeaweedFS = field(repr=False)


@contextlib.contextmanager
def services(data_dir: Path, *, durable: bool = True, check: Callable[[], None] = lambda: None) -> Iterator[Services]:
    """Run PostgreSQL and SeaweedFS for the duration of the block. The data stays in `data_dir`.

    Call it from a thread that lives as long as the services: on Linux, they end with it.

    Args:
        data_dir: The folder that stores everything. It is created if it does not exist.
        durable: False for tests: what PostgreSQL has committed survives kill -9, but not a power cut.
        check: Called when the directory is locked, before anything is created in it. What it raises ends the start.

    Raises:
        StackError: A service cannot start, or another process uses the directory.
    """
    data_dir = data_dir.absolute()
    with full_disk_named(data_dir), locked(data_dir), without_shell_variables():
        check()
        stack_file = data_dir / STACK_FILE
        stack_file.unlink(missing_ok=True)  # left by a run that was killed
        stored = load_secrets(data_dir)
        postgres = Postgres(data_dir, 0, stored.db_password, durable=durable)
        seaweedfs = SeaweedFS(data_dir, {}, stored.s3_access_key, stored.s3_secret_key)
        # Ports are chosen after the end of leftovers, which may hold them.
        for daemon in (postgres, seaweedfs):
            daemon.end_leftovers()
        postgres.port, seaweedfs.ports = _ports(data_dir)
        # Both start concurrently.
        with contextlib.ExitStack() as running:
            running.callback(seaweedfs.stop)
            seaweedfs.start()
            running.callback(postgres.stop)
            postgres.start()
            postgres.wait_ready()
            postgres.ensure_database(DATABASE)
            seaweedfs.wait_ready(BUCKET)
            running.callback(stack_file.unlink, missing_ok=True)
            yield Services(
                data_dir=data_dir,
                db_url=postgres.url(DATABASE),
                encryption_key=stored.encryption_key,
                s3=S3(seaweedfs.endpoint, BUCKET, stored.s3_access_key, stored.s3_secret_key),
                postgres=postgres,
                seaweedfs=seaweedfs,
            )


def write_stack_file(running: Services, server_url: str, token: str = "") -> None:
    """Write `stack.json`, which has the addresses and keys of all three services for scripts.

    Only its owner can read it. It is removed when the services stop. `token` is that of an admin, if callers need one.
    """
    content = {
        "server_url": server_url,
        "db_url": running.db_url,
        "encryption_key": running.encryption_key,
        "s3": {
            "endpoint": running.s3.endpoint,
            "bucket": running.s3.bucket,
            "access_key": running.s3.access_key,
            "secret_key": running.s3.secret_key,
        },
        **({"token": token} if token else {}),
    }
    write_private(running.data_dir / STACK_FILE, content)


def up(data_dir: Path | None, addr: str, *, asks: bool = False) -> int:
    """Run the services and the server until Ctrl-C or SIGTERM, and return the exit code. Call it from the main thread.

    When everything is ready, the address is printed, and `stack.json` exists until the end. If a service ends, all do.

    Args:
        data_dir: The folder that stores everything, or None for that of the user.
        addr: The address of the server, as for `datas3t server`.
        asks: Whether callers need a token. That of an admin is then in `stack.json`; each start has a new one.
    """
    from datas3t.server.front.edge import listen  # noqa: PLC0415 - only needed here
    from datas3t.server.settings import Address, SettingsError  # noqa: PLC0415

    try:
        address = Address.parse(addr)
    except SettingsError as error:
        print(f"Error: {escaped(str(error))}", file=sys.stderr)
        return 2

    def check() -> None:
        for listening in listen(address):
            listening.close()

    try:
        with until_signalled(), services(data_dir or folders.data(), check=check) as running:
            _serve(running, address, secrets.token_urlsafe(32) if asks else "")
    except (StackError, SettingsError, OSError) as error:
        print(f"Error: {escaped(str(error))}", file=sys.stderr)
        return 1
    return 0


def _serve(running: Services, address: "Address", token: str) -> None:
    """Run the server, with this token of an admin if there is one, until a signal or the end of a service."""
    from datas3t.server import buckets  # noqa: PLC0415 - takes half a second
    from datas3t.server.app.process import allow_many_connections  # noqa: PLC0415
    from datas3t.server.app.server import Server  # noqa: PLC0415
    from datas3t.server.db.migrate import MigrationEdited  # noqa: PLC0415
    from datas3t.server.errors import Failure  # noqa: PLC0415
    from datas3t.server.settings import AccessSettings, Settings, SettingsError  # noqa: PLC0415
    from datas3t.server.telemetry import logs  # noqa: PLC0415 - takes half a second

    logs.configure("warning")
    allow_many_connections()
    s3 = running.s3
    with contextlib.ExitStack() as cleanup:
        try:
            settings = Settings(
                db_url=running.db_url,
                encryption_key=running.encryption_key,
                cache_dir=running.data_dir / "cache",
                addr=address,
                drain=_DRAIN,
                access=AccessSettings(asks=bool(token), admin_token=token),
            )
            server = Server(settings)
            cleanup.callback(_stop, server)
            server.start()
            buckets.add(
                server.resources,
                BUCKET_CONFIGURATION,
                s3.endpoint,
                s3.bucket,
                "us-east-1",
                s3.access_key,
                s3.secret_key,
            )
        except (SettingsError, Failure, MigrationEdited) as error:
            raise StackError(str(error)) from error
        write_stack_file(running, server.url, token)
        data_dir = escaped(str(running.data_dir))
        ready = _READY + (_ASKS if token else "")
        print(ready.format(url=server.url, data_dir=data_dir, stack_file=STACK_FILE), flush=True)
        watch = DiskWatch(running.data_dir, running.seaweedfs, BUCKET)
        for check in itertools.count():
            for daemon in (running.postgres, running.seaweedfs):
                daemon.fail_if_ended()
                if check % _DISK_EVERY == 0:
                    daemon.limit_log()
            if check % _DISK_EVERY == 0:
                watch.check()
            time.sleep(_POLL_SECONDS)


def _stop(server: "Server") -> None:
    """Stop the server, but do not wait for it for ever.

    This process ends within the time to drain and 5 seconds, whatever hangs in it or in a service. The services end
    with it: the kernel tells them.
    """
    from datas3t.server.app.process import exit_after  # noqa: PLC0415
    from datas3t.server.app.signals import EXIT_SECONDS  # noqa: PLC0415

    exit_after(_DRAIN.total_seconds() + EXIT_SECONDS)
    stopping = threading.Thread(target=server.stop, name="stop", daemon=True)
    stopping.start()
    stopping.join(_DRAIN.total_seconds() + _STOP_SECONDS)


def _ports(data_dir: Path) -> tuple[int, dict[str, int]]:
    """Return the port of PostgreSQL and the ports of SeaweedFS."""
    chosen = ports.choose(data_dir)
    return chosen["postgres"], {name: port for name, port in chosen.items() if name != "postgres"}


@contextlib.contextmanager
def without_shell_variables() -> Iterator[None]:
    """Remove the variables that would change connections to the services, for the duration of the block.

    Child processes inherit the result. Proxies stay set for other hosts, but are not used for loopback.
    """
    exceptions = {name: os.environ[name] for name in _PROXY_EXCEPTIONS if name in os.environ}
    listed = next(filter(None, exceptions.values()), "")
    removed = {name: os.environ.pop(name) for name in list(os.environ) if _changes_connections(name)}
    for name in _PROXY_EXCEPTIONS:
        os.environ[name] = listed if listed.strip() == "*" else ",".join([*filter(None, [listed]), *_LOOPBACK])
    try:
        yield
    finally:
        for name in _PROXY_EXCEPTIONS:
            os.environ.pop(name, None)
        os.environ.update(removed | exceptions)


def _changes_connections(name: str) -> bool:
    return name.startswith(_FOREIGN) and name not in _KEPT
