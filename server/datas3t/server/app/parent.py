"""`datas3t server --workers N`: a small process that holds the port, and starts the workers that serve on it.

It starts a worker again when it ends, chooses the one that deletes objects in the background, and passes signals on.
The workers are programs of their own, because gRPC does not survive a fork. When the parent ends, however it does, so
do they.
"""

import logging
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datas3t.local.folders import private_folder
from datas3t.server.app.addresses import log_addresses, reserve, warn_if_open
from datas3t.server.app.child import Child
from datas3t.server.app.signals import EXIT_SECONDS, Events
from datas3t.server.front.edge import listen
from datas3t.server.settings import Address, Settings, SettingsError
from datas3t.server.telemetry import logs
from datas3t.text import escaped

_KILL_SECONDS = EXIT_SECONDS + 1.5  # after the time to drain, until workers are killed that have not ended
_SOUND_SECONDS = 5.0  # the place of a worker that has served for so long is taken at once
_FIRST_DELAY = 0.5  # seconds until another one is started in place of a worker that has not
_LONGEST_DELAY = 30.0

_log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Run the workers until SIGTERM or SIGINT, and return the exit code. A second signal kills everything at once.

    After the first signal everything ends within the time to drain and 5 seconds, whatever hangs. It must be called in
    the main thread, because it installs signal handlers.
    """
    logs.configure(settings.log_level, settings.log_format)
    folder = None
    try:
        listening = listen(settings.addr)
        reserved = reserve(settings.grpc_addr) if settings.grpc_addr else []
        settings = replace(settings, addr=_bound(settings.addr, listening))
        if settings.grpc_addr:
            settings = replace(settings, grpc_addr=_bound(settings.grpc_addr, reserved))
        folder = private_folder()
        return _Parent(settings, listening, folder).run()
    except SettingsError as error:
        print(f"Error: {escaped(str(error))}", file=sys.stderr)
        return 1
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _bound(address: Address, sockets: Sequence[socket.socket]) -> Address:
    return Address(address.host, int(sockets[0].getsockname()[1]))


class _StartError(SettingsError):
    """A worker could not start, and there was none before in its place."""


class _Parent:
    """The parent of the workers of one server."""

    def __init__(self, settings: Settings, listening: Sequence[socket.socket], folder: Path) -> None:
        self._settings = settings
        self._listening = listening
        self._folder = folder
        self._children: set[Child] = set()
        self._due: dict[int, float] = dict.fromkeys(range(1, settings.workers + 1), 0.0)  # when to start which worker
        self._delays: dict[int, float] = {}  # before the next start, by the number of a worker that ended early
        self._all_served = False
        self._kill_at: float | None = None  # once it is stopping
        self._drained = True

    def run(self) -> int:
        """Run until all workers have ended after a signal, and return the exit code.

        Raises:
            _StartError: if a worker cannot start.
        """
        events = Events()
        try:
            while self._due or self._children:
                self._start_due()
                sources: list[Events | Child] = [events, *self._children]
                for ready in select.select(sources, [], [], self._patience())[0]:
                    if isinstance(ready, Child):
                        self._hear(ready)
                    elif self._kill_at is None:
                        events.next()
                        self._stop()
                    else:
                        return 1
                if self._kill_at is not None and time.monotonic() >= self._kill_at:
                    self._drained = False
                    break
        finally:
            for child in self._children:
                child.end(kill=True)
        if self._drained:
            _log.info("stopped")
        else:
            _log.warning("stopped before all running calls ended")
        return 0 if self._drained else 1

    def _patience(self) -> float | None:
        """Return how many seconds to wait for the next event."""
        times = [*self._due.values(), *([] if self._kill_at is None else [self._kill_at])]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, due in self._due.items() if due <= now]:
            del self._due[number]
            try:
                self._children.add(Child(number, self._settings, self._listening, self._folder))
            except OSError as error:  # such as too little memory
                if not self._all_served:
                    raise _StartError(f"a worker cannot be started: {error.strerror or error}") from None
                delay = self._start_later(number, served=False)
                _log.warning("worker %d cannot be started: %s; the next attempt is in %g seconds", number, error, delay)

    def _hear(self, child: Child) -> None:
        """Handle what a worker has told, or its end."""
        lines = child.read()
        if lines is None:
            self._children.remove(child)
            self._ended(child, child.end(kill=False))
            return
        for line in lines:
            what, _, text = line.partition(" ")
            if what == "serving":
                child.serving_since = time.monotonic()
                self._choose_reaper()
                self._announce()
            elif what == "failed":
                child.failure = text
            elif what == "deletions":
                self._wake_reaper()

    def _announce(self) -> None:
        """Log the addresses once all workers serve."""
        serving = [child for child in self._children if child.serving_since is not None]
        if self._all_served or len(serving) < self._settings.workers or self._kill_at is not None:
            return
        self._all_served = True
        grpc_addr = self._settings.grpc_addr
        log_addresses(
            self._settings.addr.url(tls=self._settings.tls is not None), grpc_addr.port if grpc_addr else None
        )
        warn_if_open(self._settings)
        pids = [str(child.pid) for child in sorted(serving, key=lambda child: child.number)]
        _log.info("%d workers serve: processes %s", len(pids), ", ".join(pids))

    def _choose_reaper(self) -> None:
        """Have one worker delete objects in the background."""
        serving = [child for child in self._children if child.serving_since is not None]
        if self._kill_at is None and serving and not any(child.reaps for child in serving):
            serving[0].reaps = True
            serving[0].tell("reap")
            _log.info("worker %d deletes objects in the background", serving[0].number)

    def _wake_reaper(self) -> None:
        for child in self._children:
            if child.reaps:
                child.tell("wake")

    def _stop(self) -> None:
        _log.info("stopping: new calls are refused, running calls have %s to end", self._settings.drain)
        self._kill_at = time.monotonic() + self._settings.drain.total_seconds() + _KILL_SECONDS
        self._due.clear()
        for child in self._children:
            child.tell("stop")

    def _ended(self, child: Child, code: int) -> None:
        """Have another worker take the place of one that has ended, unless the server stops."""
        if self._kill_at is not None:
            self._drained = self._drained and code == 0
            return
        how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        if not self._all_served:
            raise _StartError(child.failure or f"a worker {how} while the server started")
        delay = self._start_later(child.number, served=child.served(_SOUND_SECONDS))
        when = f"in {delay:g} seconds" if delay else "now"
        if child.failure:
            _log.warning("worker %d could not start: %s; the next attempt is %s", child.number, child.failure, when)
        else:
            _log.warning("worker %d (process %d) %s; another one starts %s", child.number, child.pid, how, when)
        self._choose_reaper()

    def _start_later(self, number: int, *, served: bool) -> float:
        """Have a worker started, and return after how many seconds: none if the one before has served well."""
        delay = 0.0 if served else self._delays.get(number, _FIRST_DELAY)
        self._delays[number] = min(2 * delay, _LONGEST_DELAY) or _FIRST_DELAY
        self._due[number] = time.monotonic() + delay
        return delay


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
