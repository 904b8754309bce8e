"""The states of intents: looking them up, their transitions, and the failures that say how they ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from datas3t import v1
from datas3t.archive.names import MAX_KEY, datas3t_of
from datas3t.server import values
from datas3t.server.call import current
from datas3t.server.db import aggregate_uploads, checksums_uploads, datarange_uploads, datas3ts, pool, table_uploads
from datas3t.server.db.aggregate_uploads import Aggregate
from datas3t.server.db.checksums_uploads import ChecksumsUpload
from datas3t.server.db.datarange_uploads import Upload
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.db.intents import IntentTable, State
from datas3t.server.db.pool import Connection
from datas3t.server.db.table_uploads import TableUpload
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket

Reason: TypeAlias = v1.ErrorReason.ValueType


class Intent(Protocol):
    """The columns that all intents have in common."""

    @property
    def id(self) -> int: ...
    @property
    def datas3t_id(self) -> int: ...
    @property
    def first_key(self) -> int: ...
    @property
    def last_key(self) -> int: ...
    @property
    def data_object_key(self) -> str: ...
    @property
    def multipart(self) -> bool: ...
    @property
    def state(self) -> State: ...
    @property
    def failure_reason(self) -> int | None: ...
    @property
    def failure_message(self) -> str | None: ...


class ArchiveIntent(Intent, Protocol):
    """The columns that uploads and aggregates have in common."""

    @property
    def data_size(self) -> int: ...
    @property
    def index_object_key(self) -> str: ...
    @property
    def part_size(self) -> int: ...
    @property
    def s3_upload_id(self) -> str | None: ...
    @property
    def with_checksums(self) -> bool: ...


Row = TypeVar("Row", bound=Intent)
ArchiveRow = TypeVar("ArchiveRow", bound=ArchiveIntent)


@dataclass(frozen=True)
class Intents(Generic[Row]):
    """All uploads, all aggregates, all table files, or all additions of checksums.

    `noun` names one of them in messages, and `id_field` is its id in metadata. `when_completed` says what to do instead
    of changing one that is completed.
    """

    noun: str
    id_field: str
    when_completed: str
    not_found_reason: Reason
    completed_reason: Reason
    cancelled_reason: Reason
    by_id: Callable[[Connection, int], Row | None]
    table: IntentTable

    def find(self, resources: Resources, intent_id: int) -> Row:
        """Return the intent in whatever state it is; raise `not_found_reason` if it does not exist."""
        intent = None
        if 0 < intent_id <= MAX_KEY:
            with pool.connection(resources.pool) as conn:
                intent = self.by_id(conn, intent_id)
        if intent is None:
            raise self.not_found(intent_id)
        current().subject = intent.data_object_key
        return intent

    def datas3t_name(self, resources: Resources, intent_id: int) -> str:
        """Return the name of the datas3t that the intent is of; raise `not_found_reason` if it does not exist."""
        return datas3t_of(self.find(resources, intent_id).data_object_key)

    def find_pending(self, resources: Resources, intent_id: int) -> Row:
        """Return the intent if it is pending; otherwise raise the failure that says how it ended."""
        intent = self.find(resources, intent_id)
        if intent.state == "completed":
            raise self.completed_failure(intent)
        self.raise_failure(intent)
        return intent

    def datas3t(self, resources: Resources, intent: Row) -> Datas3t:
        """Return the datas3t of the intent; raise `cancelled_failure` if it was deleted, which cancels its intents."""
        with pool.connection(resources.pool) as conn:
            datas3t = datas3ts.by_id(conn, intent.datas3t_id)
        if datas3t is None:
            raise self.cancelled_failure(intent)
        return datas3t

    def open_multipart(
        self, resources: Resources, bucket: Bucket, intent: Row, create: Callable[[], str] | None = None
    ) -> str:
        """Open the intent's multipart upload in S3, by `create` if it is given, and return the id it has there.

        Cancel the intent if S3 refuses or does not respond. Raise `cancelled_failure` if the intent has ended since.
        """
        try:
            s3_upload_id = create() if create else bucket.create_multipart(intent.data_object_key)
        except Failure:
            self._cancel(resources, intent)
            raise
        with pool.connection(resources.pool) as conn:
            pending = self.table.set_s3_upload_id(conn, intent.id, s3_upload_id)
        if not pending:
            bucket.abort_multipart(intent.data_object_key, s3_upload_id)
            raise self.cancelled_failure(intent)
        return s3_upload_id

    def extend(self, resources: Resources, intent: Row) -> datetime:
        """Keep the intent until URLs that are signed now expire, and return when that is; raise as `find_pending`."""
        expires_at = resources.expiry()
        with pool.connection(resources.pool) as conn:
            pending = self.table.extend(conn, intent.id, resources.url_lifetime)
        if not pending:
            self.find_pending(resources, intent.id)
        return expires_at

    def complete(
        self,
        resources: Resources,
        intent_id: int,
        etags: Sequence[str],
        commit: Callable[[Row, Sequence[str]], Failure | None],
    ) -> None:
        """Complete a pending intent by `commit`; if the intent has ended, repeat its outcome.

        `commit` checks the objects in S3, and then inserts the datarange and completes the row in one transaction. It
        returns a failure that is final, which this method stores and raises. What it raises itself is not final: the
        intent stays pending, and the call may be repeated.
        """
        etags = values.etags("upload_ids", etags)
        intent = self.find(resources, intent_id)
        if intent.state != "pending":
            self.raise_failure(intent)
            return
        if etags and not intent.multipart:
            raise values.invalid("upload_ids", "must be empty, because this archive goes up in one PUT, without parts")
        failure = commit(intent, etags)
        if failure is not None and self.fail(resources, intent, failure):
            raise failure
        # Another call may have ended the intent while S3 was called: its outcome is also the outcome of this call.
        self.raise_failure(self.find(resources, intent_id))

    def cancel(self, resources: Resources, intent_id: int) -> None:
        """Cancel a pending intent; raise `completed_failure` if it is complete; otherwise do nothing."""
        intent = self.find(resources, intent_id)
        if intent.state == "pending":
            self._cancel(resources, intent)
            intent = self.find(resources, intent_id)
        if intent.state == "completed":
            raise self.completed_failure(intent)

    def fail(self, resources: Resources, intent: Row, failure: Failure) -> bool:
        """End a pending intent with a failure, which is raised again by later calls; return whether it was pending."""
        with pool.connection(resources.pool) as conn:
            failed = self.table.fail(
                conn, intent.id, resources.put_grace, reason=failure.reason, message=failure.message
            )
        if failed:
            resources.deletions.set()
        return failed

    def raise_failure(self, intent: Row) -> None:
        """Raise the failure that ended the intent, if it was cancelled or has failed."""
        if intent.state == "cancelled":
            raise self.cancelled_failure(intent)
        if intent.state == "failed":
            assert intent.failure_reason is not None
            assert intent.failure_message is not None
            raise self.final_failure(intent, v1.ErrorReason.ValueType(intent.failure_reason), intent.failure_message)

    def final_failure(self, intent: Row, reason: Reason, message: str) -> Failure:
        """Return a failure that ends the intent; its metadata name the datas3t and the keys."""
        name = datas3t_of(intent.data_object_key)
        keys = {"datas3t": name, "first": intent.first_key, "last": intent.last_key}
        return self._failure(reason, message, intent.id, **keys)

    def not_found(self, intent_id: int) -> Failure:
        """Return the failure of calls with an id that never was, or is too old."""
        message = f"there is no {self.noun} {intent_id}; start a new {self.noun}"
        return self._failure(self.not_found_reason, message, intent_id)

    def completed_failure(self, intent: Row, what: str = "") -> Failure:
        """Return the failure of calls that need a pending intent, for one that is completed; `what` is how it ends."""
        message = f"{self.noun} {intent.id} is already complete" + (f", {what}" if what else f"; {self.when_completed}")
        return self._failure(self.completed_reason, message, intent.id)

    def cancelled_failure(self, intent: Row) -> Failure:
        """Return the failure of calls that need a pending intent, for one that was cancelled or has expired."""
        message = f"{self.noun} {intent.id} was cancelled or has expired; start a new {self.noun}"
        return self._failure(self.cancelled_reason, message, intent.id)

    def _cancel(self, resources: Resources, intent: Row) -> None:
        with pool.connection(resources.pool) as conn:
            cancelled = self.table.cancel(conn, intent.id, resources.put_grace)
        if cancelled:
            resources.deletions.set()

    def _failure(self, reason: Reason, message: str, intent_id: int, **metadata: object) -> Failure:
        return Failure(reason, message, **{self.id_field: intent_id, **metadata})


UPLOADS: Intents[Upload] = Intents(
    noun="upload",
    id_field="upload_id",
    when_completed="delete the datarange to remove its datapoints",
    not_found_reason=v1.ERROR_REASON_UPLOAD_NOT_FOUND,
    completed_reason=v1.ERROR_REASON_UPLOAD_COMPLETED,
    cancelled_reason=v1.ERROR_REASON_UPLOAD_CANCELLED,
    by_id=datarange_uploads.by_id,
    table=IntentTable("datarange_uploads"),
)

AGGREGATES: Intents[Aggregate] = Intents(
    noun="aggregate",
    id_field="aggregate_id",
    when_completed="list the dataranges to see the result",
    not_found_reason=v1.ERROR_REASON_AGGREGATE_NOT_FOUND,
    completed_reason=v1.ERROR_REASON_AGGREGATE_COMPLETED,
    cancelled_reason=v1.ERROR_REASON_AGGREGATE_CANCELLED,
    by_id=aggregate_uploads.by_id,
    table=IntentTable("aggregate_uploads"),
)

TABLE_FILES: Intents[TableUpload] = Intents(
    noun="table file",
    id_field="table_file_id",
    when_completed="replace it by another one, or drop the table",
    not_found_reason=v1.ERROR_REASON_TABLE_FILE_NOT_FOUND,
    completed_reason=v1.ERROR_REASON_TABLE_FILE_COMPLETED,
    cancelled_reason=v1.ERROR_REASON_TABLE_FILE_CANCELLED,
    by_id=table_uploads.by_id,
    table=IntentTable("table_uploads"),
)

CHECKSUMS: Intents[ChecksumsUpload] = Intents(
    noun="addition of checksums",
    id_field="checksums_id",
    when_completed="nothing is left to do",
    not_found_reason=v1.ERROR_REASON_CHECKSUMS_NOT_FOUND,
    completed_reason=v1.ERROR_REASON_CHECKSUMS_COMPLETED,
    cancelled_reason=v1.ERROR_REASON_CHECKSUMS_CANCELLED,
    by_id=checksums_uploads.by_id,
    table=IntentTable("checksums_uploads"),
)


def owners(resources: Resources) -> dict[str, tuple[Callable[[int], str], Callable[[int], Failure]]]:
    """Return, for each field of requests with the id of an intent, how to find the name of the datas3t that it is of.

    Beside it is the failure for an id that does not exist.
    """
    fields: dict[str, Intents[Any]] = {
        "datarange_upload_id": UPLOADS,
        "aggregate_upload_id": AGGREGATES,
        "table_file_id": TABLE_FILES,
        "checksums_id": CHECKSUMS,
    }
    return {name: (partial(each.datas3t_name, resources), each.not_found) for name, each in fields.items()}
