"""What the main thread of a server waits for. It imports little, because the parent of workers stays small."""

import os
import signal
from types import FrameType

EXIT_SECONDS = 3.0  # after the time to drain, until the process ends whatever hangs

SIGNALS = (signal.SIGTERM, signal.SIGINT)
Event = int | Exception | None  # a signal, an error of the start, or the end of the start


class Events:
    """The end of the start, and the first SIGTERM and the first SIGINT. A second one kills the process at once.

    The system may deliver a signal to any thread. That does not wake a main thread that waits for a lock, so the
    handler would not run. But in every thread Python writes the signal's number to a pipe, which wakes its reader.
    """

    _STARTED = b"\0"  # no signal has this number

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for signum in SIGNALS:
            signal.signal(signum, self._handle)

    def fileno(self) -> int:
        """Return the descriptor that can be read when there is an event."""
        return self._reader

    def start_ended(self, error: Exception | None) -> None:
        """Report the end of the start."""
        self._error = error
        os.write(self._writer, self._STARTED)

    def next(self) -> Event:
        """Wait for the next event."""
        byte = os.read(self._reader, 1)
        return self._error if byte == self._STARTED else byte[0]

    @staticmethod
    def _handle(signum: int, _frame: FrameType | None) -> None:
        """Have a second signal kill the process."""
        signal.signal(signum, signal.SIG_DFL)
