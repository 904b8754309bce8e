# ruff: noqa: N818 - the names are words of the domain; the base class says that they are errors
"""The exceptions of this package.

There is a class for each gRPC status code, and for each kind of failure between this process and S3 or a local file.
If Python has a builtin exception for it, the class is derived from that too. Programs should check the class and
`reason` (docs/errors.md); the message is one line for people.
"""

from collections.abc import Mapping
from typing import Any

from datas3t.text import escaped


class Datas3tError(Exception):
    """The base class of all errors of this package.

    Attributes:
        reason: What happened, as a word of the contract such as "DATAS3T_NOT_FOUND"; empty if the error did not come
            from the server.
        metadata: Everything variable in the message, by name.
    """

    def __init__(self, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(escaped(message))
        self.reason = reason
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        # KeyError would show the repr of the message, with quotes and escapes.
        return str(self.args[0]) if self.args else ""


class NotFound(Datas3tError, LookupError):
    """A name, a range or an upload does not exist."""


class DatapointNotFound(NotFound, KeyError):
    """A datapoint does not exist.

    Attributes:
        key: Its key; None if it is not known.
    """

    def __init__(
        self, message: str, *, key: int | None = None, reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.key = key


class PathNotFound(NotFound, KeyError):
    """No datapoint has a path, or the one that has it was deleted.

    Attributes:
        path: The path.
    """

    def __init__(
        self, message: str, *, path: str = "", reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.path = path


class AlreadyExists(Datas3tError):
    """A name is taken, or a range overlaps a datarange."""


class InvalidArgument(Datas3tError, ValueError):
    """A value is not allowed, or an upload is not what was announced."""


class FailedPrecondition(Datas3tError):
    """Something must be done first: a bucket is in use, a datas3t is not empty, an upload has ended."""


class PermissionDenied(Datas3tError, PermissionError):
    """The server does not let this caller do that."""


class Unauthenticated(PermissionDenied):
    """The server asks for a token, and there is none, or it is not one that works."""


class Aborted(Datas3tError):
    """Another call changed what this one worked on. Start again."""


class Unavailable(Datas3tError, ConnectionError):
    """The server, its database or its S3 does not respond. Nothing is lost; try again shortly."""


class DeadlineExceeded(Datas3tError, TimeoutError):
    """The server did not respond in time. The call may or may not have taken effect."""


class ServerError(Datas3tError):
    """The server has a defect. Its log has the details under the id in the message."""


class TransferFailed(Datas3tError, ConnectionError):
    """Bytes could not be transferred to or from S3, in spite of retries."""


class TransferRefused(TransferFailed):
    """S3 refused a transfer, and would refuse it again."""


class ObjectChanged(Datas3tError):
    """An object in S3 is missing, or not the one that was committed: something wrote to the bucket directly."""


class ArchiveError(Datas3tError, ValueError):
    """An archive or an index breaks a rule of the format."""


class ChecksumMismatch(Datas3tError, ValueError):
    """The content of a datapoint differs from its checksum, also after both were fetched again.

    Attributes:
        datas3t: The name of the datas3t.
        key: The key of the datapoint; None if it is not known.
        datarange: The first and the last key of its datarange; None if they are not known.
        object: The object key of the archive. The message and `metadata` also name that of the checksums.
    """

    def __init__(
        self,
        message: str,
        *,
        datas3t: str = "",
        key: int | None = None,
        datarange: tuple[int, int] | None = None,
        object: str = "",  # noqa: A002 - as the contract calls it
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.datas3t = datas3t
        self.key = key
        self.datarange = datarange
        self.object = object


class FileError(Datas3tError, OSError):
    """A local file cannot be read or written, or changed while it was read."""


class TableError(Datas3tError, ValueError):
    """A file of a table is damaged, or its columns do not fit those of the other files."""


class FilesFailed(FileError):
    """Some files were not pushed or pulled. All others were.

    Attributes:
        result: What was done, as the call would have returned it; its `failures` say what was not.
    """

    def __init__(
        self, message: str, *, result: Any = None, reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.result = result


class PackageMissing(Datas3tError, ImportError):
    """A package that only some calls need is not installed; the message says how to install it."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed during a transfer; the message says how to resume. `except Exception` does not catch it."""
