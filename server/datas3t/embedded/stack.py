"""PostgreSQL and SeaweedFS together in one data directory: started, held by a lock, stopped."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datas3t.embedded import kept_secrets, ports
from datas3t.embedded.errors import StackError
from datas3t.embedded.postgres import Postgres
from datas3t.embedded.processes import end_leftovers
from datas3t.embedded.seaweedfs import SeaweedFS

BUCKET = "datas3t"
DATABASE = "datas3t"


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
    `durable=False` is for tests: what PostgreSQL acknowledged may be lost with the machine's power.
    """
    data_dir = data_dir.absolute()
    with _held(data_dir):
        known = kept_secrets.of(data_dir)
        postgres = Postgres(data_dir, 0, known.db_password, durable=durable)
        seaweedfs = SeaweedFS(data_dir, {}, known.s3_access_key, known.s3_secret_key)
        end_leftovers([postgres, seaweedfs])
        postgres.port, seaweedfs.ports = _ports(data_dir)
        with contextlib.ExitStack() as running:
            running.callback(seaweedfs.stop)
            seaweedfs.start()
            running.callback(postgres.stop)
            postgres.start()
            postgres.wait_ready()
            postgres.ensure_database(DATABASE)
            seaweedfs.wait_ready(BUCKET)
            yield Services(
                data_dir=data_dir,
                db_url=postgres.url(DATABASE),
                encryption_key=known.encryption_key,
                s3=S3(seaweedfs.endpoint, BUCKET, known.s3_access_key, known.s3_secret_key),
                postgres=postgres,
                seaweedfs=seaweedfs,
            )


def write_stack_file(running: Services, server_url: str) -> Path:
    """Writes `stack.json`, for scripts: how to reach all three. It holds secrets, so only its owner may read it."""
    file = running.data_dir / "stack.json"
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
    kept_secrets.write_private(file, content)
    return file


def _ports(data_dir: Path) -> tuple[int, dict[str, int]]:
    chosen = ports.of(data_dir)
    return chosen["postgres"], {name: port for name, port in chosen.items() if name != "postgres"}


@contextlib.contextmanager
def _held(data_dir: Path) -> Iterator[None]:
    """Holds the directory for this process. The kernel lets go of it when the process ends, however it ends."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StackError(f"cannot use {data_dir}: {error.strerror}; choose another data directory") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode() or "unknown"
            raise StackError(
                f"{data_dir} is in use by another datas3t up (process {holder});"
                " stop that one, or choose another data directory"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
