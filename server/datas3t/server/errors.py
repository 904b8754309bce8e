"""The exception that ends a call with a reason of the contract; errors.proto sets the code and the HTTP status."""

from datas3t import v1
from datas3t.text import escaped


class Failure(Exception):  # noqa: N818 - not a defect: it says why the call cannot be done
    """Ends a call with a reason of the contract.

    Args:
        reason: One of errors.proto. It sets the gRPC code and the HTTP status.
        message: One line for people: what happened and what to do next, without SQL, secrets or presigned queries.
        metadata: Every variable part of the message, for programs. Values are sent as text.
    """

    def __init__(self, reason: v1.ErrorReason.ValueType, message: str, **metadata: object) -> None:
        self.message = escaped(message)
        super().__init__(self.message)
        self.reason = reason
        self.metadata = {name: str(value) for name, value in metadata.items()}
