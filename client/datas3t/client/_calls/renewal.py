"""When signed URLs should be renewed."""

import math
import time

from google.protobuf.timestamp_pb2 import Timestamp

_MARGIN = 60.0  # seconds before their end at which URLs are no longer used; a tenth of their life if that is less


def stale_at(expires_at: Timestamp) -> float:
    """When, in seconds since the epoch, URLs just signed that end at `expires_at` are better signed anew.

    By a clock so wrong that they have ended already they never are: then S3 has to say so.
    """
    end = expires_at.ToMicroseconds() / 1e6
    left = end - time.time()
    return end - min(_MARGIN, left / 10) if left > 0 else math.inf
