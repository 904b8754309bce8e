"""The state machine of uploads, aggregates, table files and additions of checksums.

An intent is the row of one of them. It is committed before anything is done in the bucket, so that the
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
    failed      a completion found a problem that a repetition cannot solve: wrong objects, an overlap, changed sources

These three states are final. A repeated call has the same outcome as the first, until the reaper deletes the row after
3 days. The statement that cancels or fails an intent also queues its objects for deletion, twice: at once, and after
its URLs have expired, when no PUT can arrive any more. No transaction is open while S3 is called. So each transition
checks that the intent is still pending, and does nothing if it is not.
"""

from datas3t.server.intents.states import AGGREGATES, CHECKSUMS, TABLE_FILES, UPLOADS, Intent, Intents, owners

__all__ = ["AGGREGATES", "CHECKSUMS", "TABLE_FILES", "UPLOADS", "Intent", "Intents", "owners"]
