"""Child processes that never outlive their parent: started with a parent-death signal, stopped by a ladder of signals.

Where the kernel knows no parent-death signal (macOS), or was too slow, `end_leftovers` ends what a killed run left:
a process is a leftover only if its working directory is one of the folders asked for and its name fits, so folders
must be held by a lock that the run before has lost.
"""

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from datas3t.embedded.errors import StackError
from datas3t.embedded.signals import signals_delayed

_PR_SET_PDEATHSIG = 1
_POLITE_SECONDS = 5.0
_LOG_LIMIT = 10 * 2**20


@dataclass(frozen=True)
class Account:
    """Who runs a program that refuses to run as root."""

    name: str
    uid: int
    gid: int


def unprivileged() -> Account | None:
    """`nobody` when this process is root, else None: run as whoever we are."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account("nobody", entry.pw_uid, entry.pw_gid)


@dataclass
class Daemon:
    """One child: where it lives, how it is to be stopped, and its process while it runs.

    `folder` is its working directory and what tells its leftovers, whose names are in `names`.
    `ladder` is tried from the top: a signal, and the seconds to wait for it; SIGKILL comes last by itself.
    """

    title: str
    folder: Path
    log: Path
    names: frozenset[str]
    death_signal: signal.Signals
    ladder: Sequence[tuple[signal.Signals, float]]
    account: Account | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def spawn(self, command: Sequence[str | Path], environment: dict[str, str]) -> None:
        """Starts the command. Its parent-death signal is tied to the calling thread: call from one that lives on."""
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        with append_to(self.log) as log, signals_delayed():
            self.process = popen(
                command, environment, self.folder, log, account=self.account, death_signal=self.death_signal
            )

    def end_leftovers(self) -> None:
        """Ends what an earlier run left. Only for the holder of the data directory's lock."""
        left = list(_living_in(self.folder, self.names))
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(self.ladder[0][0])
        psutil.wait_procs(left, timeout=_POLITE_SECONDS)
        stubborn = list(_living_in(self.folder, self.names))
        for process in stubborn:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(stubborn, timeout=_POLITE_SECONDS)

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def fail_if_ended(self) -> None:
        if self.ended:
            status = self.process.returncode if self.process else None
            raise StackError(
                f"{self.title} ended with status {status}; its log {self.log} says why{last_line(self.log)}"
            )

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Asks `ready` again and again; a StackError if the process ends before, or the time is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.fail_if_ended()
            if time.monotonic() > deadline:
                raise StackError(f"{self.title} was not ready within {seconds:.0f} seconds; its log is {self.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stops the process, politely as long as the ladder allows. Does nothing if it does not run."""
        process, self.process = self.process, None
        if process is None:
            return
        for signum, seconds in self.ladder:
            process.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                break
        else:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Ends the process as a crash would: SIGKILL, at once."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()


def popen(
    command: Sequence[str | Path],
    environment: dict[str, str],
    folder: Path,
    log: int,
    *,
    account: Account | None,
    death_signal: signal.Signals,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts a child in a session of its own, with nothing of our environment, that gets `death_signal` when we die."""
    with warnings.catch_warnings():
        # Python 3.12 and later warn of a fork beside threads: the child calls prctl and getppid, and no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        return subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=_die_with_parent(death_signal),  # noqa: PLW1509 - runs after the change of user, which undoes it
            pass_fds=pass_fds,
        )


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return before_exec


def _living_in(folder: Path, names: frozenset[str]) -> Iterator[psutil.Process]:
    if not folder.exists():
        return
    home = folder.stat()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() not in names or process.status() == psutil.STATUS_ZOMBIE:
                continue
            # The link leads to the directory itself: the same path in a container is another directory.
            cwd = f"/proc/{process.pid}/cwd" if sys.platform == "linux" else process.cwd()
            if os.path.samestat(os.stat(cwd), home):
                yield process


@contextlib.contextmanager
def append_to(log: Path) -> Iterator[int]:
    """A log file to add to, as a descriptor for children; only its owner may read it."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def last_line(log: Path) -> str:
    """The log's last line that says something, as the end of a sentence."""
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()[-20:] if line.strip()]
        if lines:
            return f" (last line: {lines[-1][:200]})"
    return ""
