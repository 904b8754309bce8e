"""Uploads full spools, oldest first, in a thread that lives while there are any.

A writer appends to one spool while others are uploaded; the caller's thread would have to wait for them. The thread
ends when nothing is left to do, at an error, and with its process. Callers wait without a Condition, which Ctrl-C can
leave locked.
"""

import threading
from collections import deque
from collections.abc import Callable

from datas3t.client._files._writer.spool import Spool
from datas3t.client.errors import DeadlineExceeded, FailedPrecondition, TransferFailed, TransferRefused, Unavailable

_WAKE_SECONDS = 0.02
_MAX_WAIT = 5.0  # seconds for the thread to end, which stops at its next progress
_PASSING = (Unavailable, DeadlineExceeded, TransferFailed)


class Stopped(Exception):  # noqa: N818 - an event, not an error
    """The uploader was stopped during an upload."""


class Uploader:
    """The queue of full spools.

    Args:
        upload: Uploads a spool and removes it. It is given a function to call now and then, which raises Stopped.
        spools: What is to be uploaded first.
        max_waiting: How many spools there may be.
    """

    def __init__(
        self, upload: Callable[[Spool, Callable[[], None]], None], spools: list[Spool], max_waiting: int
    ) -> None:
        self._upload = upload
        self._spools = deque(spools)
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._done = 0  # the number of the last spool that was uploaded
        self._thread: threading.Thread | None = None  # the last one that was started
        self._works = False  # whether it has something to do
        self._failure: Exception | None = None
        self._stopped = False
        self._release: Callable[[], None] = lambda: None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to upload."""
        return not self._spools

    def has(self, spool: Spool) -> bool:
        """Return whether a spool was added, also if it is uploaded by now."""
        with self._lock:
            return spool.number <= self._done or spool in self._spools

    def check(self) -> None:
        """Raise the error of the last upload, unless it may pass by itself."""
        failure = self._failure
        if failure is not None and not _passes(failure):
            raise failure

    def add(self, spool: Spool) -> None:
        """Add a full spool, to be uploaded when it is started or waited for."""
        with self._lock:
            self._spools.append(spool)

    def start(self) -> None:
        """Start to upload what there is."""
        with self._lock:
            self._start()

    def wait_for_room(self) -> None:
        """Wait until a spool may be added.

        Raises:
            Datas3tError: The upload that is waited for has failed. It is tried again by the next call.
        """
        self._wait(lambda: len(self._spools) < self._max_waiting)

    def wait_for(self, number: int) -> None:
        """Wait until the spools up to this number are committed. Raises what `wait_for_room` raises."""
        self._wait(lambda: not self._spools or self._spools[0].number > number)

    def stop(self) -> None:
        """Stop. Calls that wait raise FailedPrecondition."""
        self._stopped = True

    def when_stopped(self, release: Callable[[], None]) -> None:
        """Call `release` when nothing is uploaded any more, which may be after this returns."""
        with self._lock:
            self._release = release
        _join(self._thread, _MAX_WAIT)
        with self._lock:
            if not self._works:
                release()

    def _wait(self, is_done: Callable[[], bool]) -> None:
        has_tried = False
        while True:
            with self._lock:
                if is_done():
                    return
                if self._stopped:
                    raise FailedPrecondition("the writer was closed before all was uploaded; what is left is kept")
                if has_tried and not self._works and self._failure is not None:
                    raise self._failure
                self._start()
                thread, has_tried = self._thread, True
            _join(thread, _WAKE_SECONDS)

    def _start(self) -> None:
        """Start the thread, if there is something to do and none is at it. The caller holds the lock."""
        if not self._works and self._spools and not self._stopped:
            try:
                self._works, self._failure = True, None
                self._thread = threading.Thread(target=self._work, name="datas3t-writer", daemon=True)
                self._thread.start()
            except RuntimeError as error:
                self._works = False
                raise FailedPrecondition(f"no thread can be started to upload: {error}; try again") from None
            except BaseException:  # an interruption: if the thread has started nevertheless, it says so itself
                self._works = False
                raise

    def _work(self) -> None:
        failure: Exception | None = None
        while True:
            with self._lock:
                if self._thread is not threading.current_thread():  # its start was interrupted
                    return
                self._works = True
                if failure is not None or not self._spools or self._stopped:
                    self._works, self._failure = False, failure
                    self._release()
                    return
                spool = self._spools[0]
            try:
                self._upload(spool, self._check_stopped)
                with self._lock:
                    self._done = self._spools.popleft().number
            except Stopped:
                pass
            except Exception as error:  # raised by a later call
                failure = error

    def _check_stopped(self) -> None:
        if self._stopped:
            raise Stopped


def _join(thread: threading.Thread | None, seconds: float) -> None:
    """Wait for a thread to end, if it has been started."""
    if thread is not None and thread.ident is not None:
        thread.join(seconds)


def _passes(error: Exception) -> bool:
    """Return whether the same upload may succeed later without anyone doing anything."""
    return isinstance(error, _PASSING) and not isinstance(error, TransferRefused)
