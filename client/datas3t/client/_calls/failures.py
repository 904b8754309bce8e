"""What the engine's errors become for the users of the SDK."""

from collections.abc import Iterator
from contextlib import contextmanager

from datas3t.client.errors import Datas3tError, ObjectChanged, TransferFailed, TransferRefused
from datas3t.transport import TransferError

_NOT_FINAL = frozenset((0, 403))  # no answer, and credentials that somebody may put right


@contextmanager
def as_ours() -> Iterator[None]:
    """Turns a TransferError of the block into ObjectChanged, TransferRefused or TransferFailed."""
    try:
        yield
    except TransferError as error:
        raise ours(error) from None


def ours(error: TransferError) -> Datas3tError:
    """What is raised for it: ObjectChanged, TransferRefused or TransferFailed."""
    about = {"status": str(error.status), "s3_code": error.code}
    if error.changed or error.code == "NoSuchKey":
        return ObjectChanged(str(error), metadata=about)
    final = not error.retryable and error.status not in _NOT_FINAL
    return (TransferRefused if final else TransferFailed)(str(error), metadata=about)
