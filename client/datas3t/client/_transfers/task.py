"""What uploads and aggregates have in common, and what all transfers have in common.

A task goes through three steps. After each, the journal has what a later run of the same call needs to continue:

    start      the server opens an upload or an aggregate       the journal has its id
    transfer   the archive and its index go to S3               the journal also has the ETags of the parts
    complete   the server checks and commits the result         the journal is removed
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

from datas3t import v1
from datas3t.client._calls.rpc import retry_while_unavailable
from datas3t.client._transfers.journal import Journal, JournalEntry
from datas3t.client.errors import (
    Datas3tError,
    DeadlineExceeded,
    Interrupted,
    InvalidArgument,
    TransferFailed,
    TransferRefused,
    Unavailable,
)
from datas3t.client.progress import Progress, Reporter


@dataclass(frozen=True, slots=True)
class Tuning:
    """The options of a transfer.

    Attributes:
        parallelism: How many requests to S3 are in flight at a time.
        retries: How often each request is retried.

    Raises:
        InvalidArgument: A value is too small.
    """

    parallelism: int = 4
    retries: int = 3

    def __post_init__(self) -> None:
        # The messages name the parameters of the public methods.
        if self.parallelism < 1:
            raise InvalidArgument(f"max_parallelism is {self.parallelism}; it must be 1 or more")
        if self.retries < 0:
            raise InvalidArgument(f"max_retries is {self.retries}; it must be 0 or more")


@contextmanager
def resumable(what: str) -> Iterator[None]:
    """Add the advice to run the call again to errors of the block that leave a transfer resumable.

    Args:
        what: The transfer, as the message names it.

    Raises:
        Interrupted: In place of KeyboardInterrupt.
    """
    advice = "run it again to resume"
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"{what} was interrupted; {advice}") from None
    except TransferRefused:
        raise
    except (Unavailable, DeadlineExceeded, TransferFailed) as error:
        message = f"{what} stopped: {error}; {advice}"
        raise type(error)(message, reason=error.reason, metadata=error.metadata) from None


class OpenTransfer(Protocol):
    """An upload or an aggregate that was started and is not complete yet."""

    @property
    def id(self) -> int:
        """The server's id of it."""
        ...

    @property
    def table_file_ids(self) -> tuple[int, ...]:
        """The files of tables that are committed with it."""
        ...

    def uploaded_parts(self) -> list[v1.UploadedPart]:
        """Return the parts that S3 already has. Raise the server's error if it is not open any more."""
        ...

    def complete(self, etags: Sequence[str]) -> None:
        """Have the server check and commit the result, given the ETags of all parts in order."""
        ...

    def cancel(self) -> None:
        """Cancel the transfer; the server deletes what was sent."""
        ...


Opened = TypeVar("Opened", bound=OpenTransfer)
Result = TypeVar("Result")


class Task(ABC, Generic[Opened, Result]):
    """One upload or aggregate, with the journal from which a later run resumes it.

    Attributes:
        closed_reasons: The server's reasons that mean that the task has ended and cannot be resumed.
        restart_reasons: Those of them after which a task that an earlier run has sent is started over.
        final_errors: The errors after which running the call again would not help, so that the task is cancelled.
    """

    closed_reasons: ClassVar[frozenset[str]]
    restart_reasons: ClassVar[frozenset[str]]
    final_errors: ClassVar[tuple[type[Datas3tError], ...]]

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def run(self, progress: Progress | None) -> Result:
        """Do what remains of the task, and return its result.

        Raise the error that ended it. The journal then remains only if running the call again can help.
        """
        # Complete what an earlier run has sent.
        entry = self._journal.read()
        result = self._complete_earlier(entry) if entry and entry.sent else None
        # Otherwise send the missing parts of the transfer it started, or of a new transfer, and complete it.
        if result is None:
            opened, uploaded = (entry and self._resumed(entry)) or (self._started(), [])
            with self._cancelled_on_final_error(opened):
                etags, result = self.transfer(opened, uploaded)
            self._journal.write(JournalEntry(opened.id, True, tuple(etags), opened.table_file_ids))
            self._complete(opened, etags)
        self._journal.remove()
        Reporter(progress, "complete", 1).done()
        return result

    @abstractmethod
    def start(self) -> Opened:
        """Have the server start it."""

    @abstractmethod
    def reopen(self, upload_id: int) -> Opened:
        """Return what an earlier run has started; no call is made."""

    @abstractmethod
    def transfer(self, opened: Opened, uploaded: Sequence[v1.UploadedPart]) -> tuple[list[str], Result]:
        """Send the missing parts, given those that S3 already has.

        Return the ETags of all parts, in order, and the result.
        """

    @abstractmethod
    def committed(self) -> Result | None:
        """Return the result of an earlier run that was completed, or None if it no longer exists on the server."""

    def check(self) -> None:
        """Raise what ends the task while it waits for the server; nothing does unless a subclass says so."""

    def _started(self) -> Opened:
        opened = self.start()
        self._journal.write(JournalEntry(opened.id))
        return opened

    def _resumed(self, entry: JournalEntry) -> tuple[Opened, list[v1.UploadedPart]] | None:
        """Return what an earlier run started and the parts that S3 has, or None if it has ended since."""
        opened = self.reopen(entry.upload_id)
        try:
            return opened, opened.uploaded_parts()
        except Datas3tError as error:
            if error.reason not in self.closed_reasons:
                raise
            return None

    def _complete_earlier(self, entry: JournalEntry) -> Result | None:
        """Complete what an earlier run has sent. Return its result, or None if the task must be started over.

        The earlier run may have completed it already, and the result may have been deleted or replaced since.
        """
        try:
            self._complete(self.reopen(entry.upload_id), entry.etags)
        except Datas3tError as error:
            if error.reason not in self.restart_reasons:
                raise
            return None
        return self.committed()

    def _complete(self, opened: Opened, etags: Sequence[str]) -> None:
        try:
            retry_while_unavailable(lambda: opened.complete(etags), check=self.check)
        except Datas3tError as error:
            if error.reason in self.closed_reasons:
                self._journal.remove()
            raise

    @contextmanager
    def _cancelled_on_final_error(self, opened: Opened) -> Iterator[None]:
        """Cancel the task if the block raises one of `final_errors`, so that the server can delete its objects."""
        try:
            yield
        except self.final_errors:
            with suppress(Datas3tError):
                opened.cancel()
            self._journal.remove()
            raise
