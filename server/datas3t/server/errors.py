"""Failure: how server code says that a call cannot be done. What becomes of it on the wire stands in errors.proto."""

from datas3t import v1


class Failure(Exception):  # noqa: N818 - the architecture's word: a defect is an error, a failure is an answer
    """Ends a call with a reason of the contract.

    `message` is one line for people: what happened and what to do next, without SQL, secrets or presigned queries.
    `metadata` holds everything variable in it; values are sent as text.
    """

    def __init__(self, reason: v1.ErrorReason.ValueType, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {name: str(value) for name, value in metadata.items()}
