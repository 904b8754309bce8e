"""The states of aggregates."""

from datas3t import v1
from datas3t.server.db import aggregate_uploads
from datas3t.server.intents.states import States

_AGGREGATES = States(
    noun="aggregate",
    id_name="aggregate_id",
    finished="list the dataranges to see it",
    not_found=v1.ERROR_REASON_AGGREGATE_NOT_FOUND,
    is_completed=v1.ERROR_REASON_AGGREGATE_COMPLETED,
    is_cancelled=v1.ERROR_REASON_AGGREGATE_CANCELLED,
    by_id=aggregate_uploads.by_id,
    pending=aggregate_uploads.PENDING,
)

find, find_pending, replay = _AGGREGATES.find, _AGGREGATES.find_pending, _AGGREGATES.replay
cancel, fail = _AGGREGATES.cancel, _AGGREGATES.fail
final, completed, cancelled = _AGGREGATES.final, _AGGREGATES.completed, _AGGREGATES.cancelled
