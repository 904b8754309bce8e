"""What surrounds every call over gRPC and REST: its service, its check, its thread and time, logging and errors."""

from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from datas3t.server.access import EVERYONE, Identity


@dataclass(frozen=True)
class Service:
    """A service of the contract, and the servicer that implements it."""

    descriptor: ServiceDescriptor
    servicer: Any


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a call comes from: `grpc` or `rest`, its id in the log, and the address of its client.

    `authorization` is the value of the header or metadata of this name. It holds a secret.
    """

    transport: str
    request_id: str
    authorization: str | None = field(default=None, repr=False)
    peer: str = ""


class Context:
    """What servicers get with a request: who makes the call. Deadlines and cancellations are in `datas3t.server.call`.

    The methods are the part of gRPC's context that generated servicers use.
    """

    __slots__ = ("identity",)

    def __init__(self, identity: Identity = EVERYONE) -> None:
        self.identity = identity

    def set_code(self, code: object) -> None:
        """Do nothing. Generated servicers set UNIMPLEMENTED before they raise it."""

    def set_details(self, details: str) -> None:
        """Do nothing, as in `set_code`."""
