"""The state machine of uploads and aggregates.

An intent is the row of an upload or an aggregate. It is committed before anything is done in the bucket, so that the
server knows of every object and multipart upload there, even if a process is killed at any moment.

                     start: insert the row, then open the multipart upload in S3
                       |
                       v
                    pending <---+
                     | | |      |  sign parts: move `expires_at` to when the new URLs expire
            +--------+ | +------+---------+
            |          +-----+            |
            v                v            v
        completed        cancelled      failed

    completed   the objects were checked, and the datarange was inserted in the transaction that ended the intent
    cancelled   by a call, because the datas3t was cleared or deleted, because S3 opened no multipart upload,
                or by the reaper after `expires_at`
    failed      a completion found what no repetition can change: wrong objects, an overlap, other sources

These three states are final. A call that is repeated has the same outcome again; the reaper forgets the row after a
month. The statement that cancels or fails an intent also queues its objects for deletion, twice: now, and when no PUT
can arrive any more, because its URLs have expired. No transaction is open while S3 is called: each transition checks
that the intent is still pending, and does nothing if it is not.
"""

from datas3t.server.intents.states import AGGREGATES, UPLOADS, Intent, Intents

__all__ = ["AGGREGATES", "UPLOADS", "Intent", "Intents"]
