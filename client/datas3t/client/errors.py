# ruff: noqa: N818 - the names are words of the domain; the base says that they are errors
"""What goes wrong, as exceptions: one class for each gRPC code, each also the builtin that Python has for it.

Programs go by the class and by `reason` (docs/errors.md); the message is one line for people.
"""

from collections.abc import Mapping


class Datas3tError(Exception):
    """The base of every error of this package.

    `reason` is the contract's word for what happened, such as "DATAS3T_NOT_FOUND"; empty where the error was not
    answered by the server. `metadata` holds everything variable in the message, by name.
    """

    def __init__(self, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        # KeyError shows the repr of its argument: quotes and escapes in what is meant for people.
        return str(self.args[0]) if self.args else ""


class NotFound(Datas3tError, LookupError):
    """A name, a range or an upload that does not exist."""


class DatapointNotFound(NotFound, KeyError):
    """A key without a datapoint. `key` is it."""

    def __init__(
        self, message: str, *, key: int = 0, reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.key = key


class AlreadyExists(Datas3tError):
    """A name that is taken, or a range that overlaps a datarange."""


class InvalidArgument(Datas3tError, ValueError):
    """A value that is not allowed, or an upload that is not what was announced."""


class FailedPrecondition(Datas3tError):
    """Something must be done first: a bucket is in use, a datas3t is not empty, an upload is over."""


class Aborted(Datas3tError):
    """Somebody else changed what the call worked on; start anew."""


class Unavailable(Datas3tError, ConnectionError):
    """The server, its database or its S3 does not answer. Nothing is lost; try again shortly."""


class DeadlineExceeded(Datas3tError, TimeoutError):
    """The server did not answer in time. Whether it did what was asked is not known."""


class ServerError(Datas3tError):
    """A defect of the server; its log has the details under the id in the message."""


class TransferFailed(Datas3tError, ConnectionError):
    """Bytes could not be moved to or from S3, in spite of retries."""


class TransferRefused(TransferFailed):
    """S3 refuses a transfer, and would again."""


class ObjectChanged(Datas3tError):
    """An object in S3 is gone, or not the one that was committed: somebody wrote to the bucket directly."""


class ArchiveError(Datas3tError, ValueError):
    """An archive, or an index, that breaks a rule of the format."""


class FileError(Datas3tError, OSError):
    """A local file that cannot be read or written, or that changed while it was read."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a transfer; the message says how it goes on. `except Exception` lets it pass."""
