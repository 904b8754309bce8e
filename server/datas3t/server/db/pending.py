"""One pending intent: an upload or an aggregate. Both tables have the same columns for what becomes of it."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from datetime import datetime
from typing import Literal, LiteralString

from datas3t.server.db.pool import Connection

State = Literal["pending", "completed", "cancelled", "failed"]


class Pending:
    """The pending rows of one of the tables."""

    def __init__(self, table: LiteralString) -> None:
        self._set_s3_upload_id: LiteralString = f"""
            UPDATE {table} SET s3_upload_id = %s WHERE id = %s AND state = 'pending'
        """
        self._extend: LiteralString = f"""
            UPDATE {table} SET expires_at = greatest(expires_at, %s) WHERE id = %s AND state = 'pending'
        """
        self._finish: LiteralString = f"""
            UPDATE {table} SET state = %s, failure_reason = %s, failure_message = %s, finished_at = now()
             WHERE id = %s AND state = 'pending'
            RETURNING expires_at
        """

    def set_s3_upload_id(self, conn: Connection, intent_id: int, s3_upload_id: str) -> bool:
        """Whether it is still pending."""
        return conn.execute(self._set_s3_upload_id, [s3_upload_id, intent_id]).rowcount == 1

    def extend(self, conn: Connection, intent_id: int, expires_at: datetime) -> bool:
        """Whether it is still pending; it then lives until `expires_at` at least."""
        return conn.execute(self._extend, [expires_at, intent_id]).rowcount == 1

    def finish(
        self, conn: Connection, intent_id: int, state: State, reason: int | None = None, message: str | None = None
    ) -> datetime | None:
        """Ends it, once: of several callers one gets when its URLs end, the others None. `reason`: an ErrorReason."""
        ended = conn.execute(self._finish, [state, reason, message, intent_id]).fetchone()
        return ended[0] if ended else None
