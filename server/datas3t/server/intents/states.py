"""The states of an intent, be it an upload or an aggregate: pending, then for ever completed, cancelled or failed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from datas3t import v1
from datas3t.archive.names import MAX_KEY, parse
from datas3t.server.db import keys_to_delete, pool
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.db.pending import Pending, State
from datas3t.server.db.pool import Connection
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources

Reason: TypeAlias = v1.ErrorReason.ValueType


class Intent(Protocol):
    """What uploads and aggregates have in common: a row that was there before anything was done in the bucket."""

    @property
    def id(self) -> int: ...
    @property
    def first_key(self) -> int: ...
    @property
    def last_key(self) -> int: ...
    @property
    def data_object_key(self) -> str: ...
    @property
    def index_object_key(self) -> str: ...
    @property
    def multipart(self) -> bool: ...
    @property
    def s3_upload_id(self) -> str | None: ...
    @property
    def state(self) -> State: ...
    @property
    def failure_reason(self) -> int | None: ...
    @property
    def failure_message(self) -> str | None: ...


Row = TypeVar("Row", bound=Intent)


@dataclass(frozen=True)
class States(Generic[Row]):
    """One kind of intents. `noun` names it in messages, `id_name` in a failure's metadata; `finished` says what to do
    instead where it is complete already."""

    noun: str
    id_name: str
    finished: str
    not_found: Reason
    is_completed: Reason
    is_cancelled: Reason
    by_id: Callable[[Connection, int], Row | None]
    pending: Pending

    def find(self, resources: Resources, intent_id: int) -> Row:
        """Raises the `not_found` of its kind."""
        found = None
        if 0 < intent_id <= MAX_KEY:
            with pool.connection(resources.pool) as conn:
                found = self.by_id(conn, intent_id)
        if found is None:
            raise self._failure(self.not_found, f"there is no {self.noun} {intent_id}; start it", intent_id)
        return found

    def find_pending(self, resources: Resources, intent_id: int) -> Row:
        """Raises what a completion would, and `is_completed`."""
        found = self.find(resources, intent_id)
        if found.state == "completed":
            raise self.completed(found)
        self.replay(found)
        return found

    def replay(self, intent: Row) -> None:
        """Raises what was said when it was cancelled or failed."""
        if intent.state == "cancelled":
            raise self.cancelled(intent)
        if intent.state == "failed":
            assert intent.failure_reason is not None
            assert intent.failure_message is not None
            raise self.final(intent, v1.ErrorReason.ValueType(intent.failure_reason), intent.failure_message)

    def cancel(self, resources: Resources, datas3t: Datas3t, intent: Row) -> bool:
        """Cancels a pending one and queues its objects; whether it was this call that ended it."""
        return self._end(resources, datas3t, intent, None)

    def fail(self, resources: Resources, datas3t: Datas3t, intent: Row, failure: Failure) -> bool:
        """The same for good reason, which is told again to whoever asks."""
        return self._end(resources, datas3t, intent, failure)

    def final(self, intent: Row, reason: Reason, message: str) -> Failure:
        """What ends it, the first time and each time it is told again."""
        name = parse(intent.data_object_key)
        assert name is not None
        about = {"datas3t": name.datas3t, "first": intent.first_key, "last": intent.last_key}
        return self._failure(reason, message, intent.id, **about)

    def completed(self, intent: Row) -> Failure:
        """It is too late to cancel it, or to go on with it."""
        return self._failure(
            self.is_completed, f"{self.noun} {intent.id} is already complete; {self.finished}", intent.id
        )

    def cancelled(self, intent: Row) -> Failure:
        """Somebody ended it, or its URLs ended."""
        message = f"{self.noun} {intent.id} was cancelled or has expired; start anew"
        return self._failure(self.is_cancelled, message, intent.id)

    def _failure(self, reason: Reason, message: str, intent_id: int, **about: object) -> Failure:
        return Failure(reason, message, **{self.id_name: intent_id, **about})

    def _end(self, resources: Resources, datas3t: Datas3t, intent: Row, failure: Failure | None) -> bool:
        with pool.transaction(resources.pool) as conn:
            if failure is None:
                expires_at = self.pending.finish(conn, intent.id, "cancelled")
            else:
                expires_at = self.pending.finish(conn, intent.id, "failed", failure.reason, failure.message)
            if expires_at is None:
                return False
            archive, index, later = intent.data_object_key, intent.index_object_key, expires_at + resources.put_grace
            keys_to_delete.queue(conn, datas3t.bucket_id, [archive], multipart=intent.multipart, look_again_at=later)
            keys_to_delete.queue(conn, datas3t.bucket_id, [index], look_again_at=later)
        resources.deletions.set()
        return True
