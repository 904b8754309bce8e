"""The process of a server without workers: it starts the server, waits for a signal, and ends in time."""

import contextlib
import faulthandler
import logging
import os
import resource
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from datas3t.server.app.server import Server
from datas3t.server.app.signals import EXIT_SECONDS, Events
from datas3t.server.db.migrate import MigrationEdited
from datas3t.server.errors import Failure
from datas3t.server.settings import Settings, SettingsError
from datas3t.server.telemetry import logs
from datas3t.text import escaped

START_SECONDS = 2.0  # for a start to end that a signal interrupts
_OPEN_FILES = 65_536  # a relayed gRPC connection takes two
_LAST_EXIT_SECONDS = 1.0  # after the time to exit, until the process ends even if no Python code runs any more
_EXPECTED = (SettingsError, Failure, MigrationEdited)

_log = logging.getLogger(__name__)


def run(settings: Settings) -> int:  # noqa: RET503 - `_exit` does not return
    """Serve until SIGTERM or SIGINT, and return the exit code. A second signal kills the process at once.

    After the first signal the process ends within the time to drain and 5 seconds, whatever hangs. It must be called in
    the main thread, because it installs signal handlers. That thread does nothing but wait for signals.
    """
    logs.configure(settings.log_level, settings.log_format)
    allow_many_connections()
    events = Events()
    server = Server(settings)
    threading.Thread(target=_start, args=[server, events], name="start", daemon=True).start()
    event = events.next()
    if isinstance(event, int):  # a signal during the start
        timer = exit_after(START_SECONDS)
        event = events.next()
        timer.cancel()
    elif event is None:
        events.next()
        _log.info("stopping: new calls are refused, running calls have %s to end", settings.drain)
    if isinstance(event, Exception):
        print(f"Error: {escaped(reason(event))}", file=sys.stderr)
        return 1
    exit_after(settings.drain.total_seconds() + EXIT_SECONDS)
    _exit(server.stop())


def _start(server: Server, events: Events) -> None:
    """Start the server, and report that it is done, or the error."""
    try:
        server.start()
    except Exception as error:
        events.start_ended(error)
    else:
        events.start_ended(None)


def reason(error: Exception) -> str:
    """Return why a start failed, or raise the error if it is a defect."""
    if not isinstance(error, _EXPECTED):
        raise error
    return str(error)


def end_process(ended: bool) -> NoReturn:
    """End the process without waiting for threads, which may hang."""
    logging.shutdown()
    os._exit(0 if ended else 1)


def _exit(ended: bool) -> NoReturn:
    if ended:
        _log.info("stopped")
    else:
        _log.warning("stopped before all running calls ended")
    end_process(ended)


def exit_after(seconds: float, end: Callable[[bool], object] = _exit) -> threading.Timer:
    """Call `end(False)`, which ends the process, in `seconds`.

    Even a thread that never releases Python's lock cannot delay the end of the process for long.
    """
    timer = threading.Timer(seconds, end, [False])
    timer.daemon = True
    timer.start()
    null = open(os.devnull, "w")  # noqa: SIM115 - faulthandler writes the stack of every thread there
    faulthandler.dump_traceback_later(seconds + _LAST_EXIT_SECONDS, exit=True, file=null)
    return timer


def allow_many_connections() -> None:
    """Raise this process's limit of open files as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
