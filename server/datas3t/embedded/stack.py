"""The stack in one data directory: PostgreSQL and SeaweedFS, and for `datas3t up` the server in front of them."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import platformdirs

from datas3t.embedded import kept_secrets, ports
from datas3t.embedded.errors import StackError
from datas3t.embedded.lock import held
from datas3t.embedded.postgres import Postgres
from datas3t.embedded.seaweedfs import SeaweedFS
from datas3t.embedded.signals import until_signalled

BUCKET = "datas3t"
DATABASE = "datas3t"
BUCKET_CONFIGURATION = "local"
STACK_FILE = "stack.json"

_READY = """\
datas3t is ready at {url}

Next, in another terminal, with FOLDER holding some files:

  export DATAS3T_SERVER_URL={url}
  datas3t datas3t add --name first --bucket local
  datas3t datarange pack --output first.tar FOLDER
  datas3t datarange upload-tar --datas3t first --file first.tar
  datas3t datarange list --datas3t first

Addresses and keys for scripts: {data_dir}/{stack_file}
Ctrl-C stops everything; the data stays in {data_dir}\
"""


@dataclass(frozen=True)
class S3:
    """Where objects go. The endpoint stays the same as long as the data directory lives."""

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


@dataclass(frozen=True)
class Services:
    """What runs, and how to reach it. The two daemons can be stopped, killed and started again."""

    data_dir: Path
    db_url: str = field(repr=False)
    encryption_key: str = field(repr=False)
    s3: S3
    postgres: Postgres = field(repr=False)
    seaweedfs: SeaweedFS = field(repr=False)


@contextlib.contextmanager
def services(data_dir: Path, *, durable: bool = True) -> Iterator[Services]:
    """Runs both in `data_dir`, made if need be, until the block ends; the data stays. StackError if that cannot be.

    Call it from a thread that lives as long as the services should: on Linux they end with it.
    `durable=False` is for tests: what PostgreSQL acknowledged is safe from kill -9, but not from a power cut.
    """
    data_dir = data_dir.absolute()
    with held(data_dir):
        stack_file = data_dir / STACK_FILE
        stack_file.unlink(missing_ok=True)  # of a run that was killed
        known = _secrets(data_dir)
        postgres = Postgres(data_dir, 0, known.db_password, durable=durable)
        seaweedfs = SeaweedFS(data_dir, {}, known.s3_access_key, known.s3_secret_key)
        for daemon in (postgres, seaweedfs):
            daemon.end_leftovers()  # before ports are looked at
        postgres.port, seaweedfs.ports = _ports(data_dir)
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
                encryption_key=known.encryption_key,
                s3=S3(seaweedfs.endpoint, BUCKET, known.s3_access_key, known.s3_secret_key),
                postgres=postgres,
                seaweedfs=seaweedfs,
            )


def write_stack_file(running: Services, server_url: str) -> None:
    """Writes `stack.json`, for scripts: how to reach all three. It goes when the services stop.

    It holds secrets, so only its owner may read it.
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
    }
    kept_secrets.write_private(running.data_dir / STACK_FILE, content)


def up(data_dir: Path | None, addr: str) -> int:
    """Runs the whole stack until Ctrl-C or SIGTERM; returns the exit code. Main thread only.

    `data_dir=None` is `default_data_dir()`. `addr` is the server's, as in `datas3t server`. When all is ready, standard
    output says so, and `stack.json` is there for as long as that holds. If one of the services ends, so does all.
    """
    from datas3t.server.settings import Address, SettingsError  # noqa: PLC0415 - only who starts it needs it

    try:
        Address.parse(addr)  # wrong usage need not wait for a database
    except SettingsError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    try:
        with until_signalled(), services(data_dir or default_data_dir()) as running:
            _serve(running, addr)
    except (StackError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def default_data_dir() -> Path:
    return Path("/var/lib/datas3t") if os.geteuid() == 0 else Path(platformdirs.user_data_dir("datas3t", False))


def _serve(running: Services, addr: str) -> None:
    from datas3t.server import buckets, logs  # noqa: PLC0415 - half a second
    from datas3t.server.app import Server, allow_many_connections  # noqa: PLC0415
    from datas3t.server.db.migrate import MigrationEdited  # noqa: PLC0415
    from datas3t.server.errors import Failure  # noqa: PLC0415
    from datas3t.server.settings import Address, Settings, SettingsError  # noqa: PLC0415

    logs.configure("warning")
    allow_many_connections()
    s3 = running.s3
    with contextlib.ExitStack() as cleanup:
        try:
            settings = Settings(
                db_url=running.db_url,
                encryption_key=running.encryption_key,
                cache_dir=running.data_dir / "cache",
                addr=Address.parse(addr),
                drain=timedelta(seconds=10),
            )
            server = Server(settings)
            cleanup.callback(server.stop)
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
        write_stack_file(running, server.url)
        print(_READY.format(url=server.url, data_dir=running.data_dir, stack_file=STACK_FILE), flush=True)
        while True:
            running.postgres.fail_if_ended()
            running.seaweedfs.fail_if_ended()
            time.sleep(0.2)


def _secrets(data_dir: Path) -> kept_secrets.Secrets:
    if (data_dir / "postgres").exists() and not kept_secrets.file_in(data_dir).exists():
        raise StackError(
            f"{kept_secrets.file_in(data_dir)} is missing, and without it the data in {data_dir} cannot be opened;"
            " put it back, or choose another data directory"
        )
    return kept_secrets.of(data_dir)


def _ports(data_dir: Path) -> tuple[int, dict[str, int]]:
    chosen = ports.of(data_dir)
    return chosen["postgres"], {name: port for name, port in chosen.items() if name != "postgres"}
