"""A program that runs until Ctrl-C or SIGTERM, and then cleans up without being interrupted again."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType


class _Signalled(BaseException):
    """Raised in the main thread by the first signal."""


@dataclass
class _State:
    """Signals and delays of the main thread, the only one in which Python handles signals."""

    handled: list[signal.Signals] = field(default_factory=list)
    delays: int = 0  # blocks of `signals_delayed` that the main thread is in
    pending: bool = False  # a signal came during a delay


_state = _State()


@contextlib.contextmanager
def until_signalled() -> Iterator[None]:
    """End the block at SIGINT, SIGTERM or SIGHUP, as an exception would, and continue after it.

    Only the first signal counts: further ones are ignored while the block cleans up. Call it from the main thread.
    """
    _state.handled = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # under nohup it stays ignored
        _state.handled.append(signal.SIGHUP)
    _state.pending = False
    before = {each: signal.signal(each, _handle) for each in _state.handled}
    try:
        yield
    except _Signalled:
        pass
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def signals_delayed() -> Iterator[None]:
    """Delay the effect of a signal to the end of the block, in which a child process is started and its handle stored.

    An exception in between would leave a child that nobody stops.
    """
    _state.delays += 1
    try:
        yield
    finally:
        _state.delays -= 1
        if _state.pending and not _state.delays:
            _end()


def _handle(_signum: int, _frame: FrameType | None) -> None:
    if _state.delays:
        _state.pending = True  # signals are not ignored yet either: the child would inherit that
    else:
        _end()


def _end() -> None:
    """Ignore further signals, and end the block of `until_signalled`."""
    _state.pending = False
    for each in _state.handled:
        signal.signal(each, signal.SIG_IGN)
    raise _Signalled
