"""Child processes that never outlive their parent: they get a signal when it dies, and `stop` ends them step by step.

Where the kernel has no parent-death signal (macOS) or delivers it too late, `end_leftovers` ends the processes of a
killed run. A process is a leftover if its working directory is the daemon's folder and its name fits. The caller must
hold the lock of the data directory, which the earlier run can then no longer hold.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from datas3t.embedded import StackError
from datas3t.embedded.accounts import Account
from datas3t.embedded.signals import signals_delayed

_LAUNCHER = Path(__file__).with_name("launcher.py")
_LEFTOVER_SECONDS = 5.0  # for leftovers to end after a signal
_POLL_SECONDS = 0.02
_MAX_LOG_SIZE = 10 * 2**20  # bytes


@dataclass
class Daemon:
    """A child process: how it is started and stopped, and its handle while it runs.

    `folder` is its working directory. A process in it whose name is in `names` is a leftover of an earlier run.
    `stop_signals` are sent in order, each with the seconds to wait for the end of the process. SIGKILL follows.
    """

    title: str
    folder: Path
    log: Path
    names: frozenset[str]
    death_signal: signal.Signals
    stop_signals: Sequence[tuple[signal.Signals, float]]
    account: Account | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def spawn(self, command: Sequence[str | Path], environment: dict[str, str]) -> None:
        """Start the command. On Linux, the kernel treats the end of the calling thread as the death of the parent."""
        self.limit_log()
        with append_to(self.log) as log, signals_delayed():
            self.process = popen(
                command, environment, self.folder, log, account=self.account, death_signal=self.death_signal
            )

    def limit_log(self) -> None:
        """Move what a large log has to another file, while the process continues to append to this one."""
        if self.log.exists() and self.log.stat().st_size > _MAX_LOG_SIZE:
            with contextlib.suppress(OSError):  # the disk may be full
                shutil.copy(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    def end_leftovers(self) -> None:
        """End the processes of an earlier run. The caller must hold the lock of the data directory."""
        leftovers = list(_living_in(self.folder, self.names))
        for process in leftovers:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(self.stop_signals[0][0])
        psutil.wait_procs(leftovers, timeout=_LEFTOVER_SECONDS)
        remaining = list(_living_in(self.folder, self.names))
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(remaining, timeout=_LEFTOVER_SECONDS)

    @property
    def ended(self) -> bool:
        """Whether the process does not run."""
        return self.process is None or self.process.poll() is not None

    def fail_if_ended(self) -> None:
        """Raise StackError if the process does not run."""
        if self.ended:
            status = self.process.returncode if self.process else None
            raise StackError(f"{self.title} ended with status {status}; see its log {self.log}{last_line(self.log)}")

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Call `ready` until it returns True. Raises StackError if the process ends, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.fail_if_ended()
            if time.monotonic() > deadline:
                raise StackError(f"{self.title} was not ready within {seconds:.0f} seconds; see its log {self.log}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop the process with the stop signals, and with SIGKILL if they have no effect."""
        process, self.process = self.process, None
        if process is None:
            return
        for signum, seconds in self.stop_signals:
            process.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                break
        else:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the process as a crash would, with SIGKILL."""
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
    """Start a child in its own session, with only `environment`. It gets `death_signal` when this process dies."""
    account_ids = (str(account.uid), str(account.gid)) if account else ("", "")
    launcher = (sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid()), str(int(death_signal)), *account_ids)
    return subprocess.Popen(
        [*launcher, *command],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        umask=0o077,
        pass_fds=pass_fds,
    )


def _living_in(folder: Path, names: frozenset[str]) -> Iterator[psutil.Process]:
    """Yield the processes with one of these names whose working directory is `folder`."""
    if not folder.exists():
        return
    home = folder.stat()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() not in names or process.status() == psutil.STATUS_ZOMBIE:
                continue
            # Directories are compared, not paths: the same path inside a container is another directory.
            cwd = f"/proc/{process.pid}/cwd" if sys.platform == "linux" else process.cwd()
            if os.path.samestat(os.stat(cwd), home):
                yield process


@contextlib.contextmanager
def append_to(log: Path) -> Iterator[int]:
    """Open a log file, which only its owner can read, for appending. Yields a descriptor for child processes."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank, in brackets, for the end of an error message."""
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()[-20:] if line.strip()]
        if lines:
            return f" (last line: {lines[-1][:200]})"
    return ""
