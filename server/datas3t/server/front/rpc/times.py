"""Instants on the wire."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(instant: datetime) -> Timestamp:
    """The message for an instant with a time zone."""
    message = Timestamp()
    message.FromDatetime(instant)
    return message
