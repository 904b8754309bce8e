"""The states of uploads."""

from datas3t import v1
from datas3t.server.db import datarange_uploads
from datas3t.server.intents.states import States

_UPLOADS = States(
    noun="upload",
    id_name="upload_id",
    finished="to remove its datapoints, delete the datarange",
    not_found=v1.ERROR_REASON_UPLOAD_NOT_FOUND,
    is_completed=v1.ERROR_REASON_UPLOAD_COMPLETED,
    is_cancelled=v1.ERROR_REASON_UPLOAD_CANCELLED,
    by_id=datarange_uploads.by_id,
    pending=datarange_uploads.PENDING,
)

find, find_pending, replay = _UPLOADS.find, _UPLOADS.find_pending, _UPLOADS.replay
cancel, fail = _UPLOADS.cancel, _UPLOADS.fail
final, completed, cancelled = _UPLOADS.final, _UPLOADS.completed, _UPLOADS.cancelled
