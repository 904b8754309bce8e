"""A program in the foreground: it runs until Ctrl-C or SIGTERM, once, and then cleans up undisturbed."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class _Signalled(BaseException):
    """Raised in the main thread by the first signal."""


@contextlib.contextmanager
def until_signalled() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end the block, as an exception would, and go no further.

    Only the first is heard: what comes while the block cleans up does not stop it from doing so. Main thread only.
    """
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        signals.append(signal.SIGHUP)

    def end(_signum: int, _frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise _Signalled

    before = {each: signal.signal(each, end) for each in signals}
    try:
        yield
    except _Signalled:
        pass
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
