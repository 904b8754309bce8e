"""Transfers that go on where they stopped: what is said to the user when one stops."""

from collections.abc import Iterator
from contextlib import contextmanager

from datas3t.client.errors import (
    Datas3tError,
    DeadlineExceeded,
    Interrupted,
    TransferFailed,
    TransferRefused,
    Unavailable,
)


@contextmanager
def says_how_to_go_on(what: str) -> Iterator[None]:
    """Around a transfer. Where it was cut off from outside, the error also says that it can go on."""
    advice = "run it again, and it goes on where it stopped"
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"{what} was interrupted; {advice}") from None
    except TransferRefused:
        raise
    except (Unavailable, DeadlineExceeded, TransferFailed) as error:
        raise _with(error, f"{what} stopped: {error}; {advice}") from None


def _with(error: Datas3tError, message: str) -> Datas3tError:
    return type(error)(message, reason=error.reason, metadata=error.metadata)
