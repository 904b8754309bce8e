"""What surrounds every call over gRPC and REST: its service, its thread and time, logging, metrics and errors."""

from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor


@dataclass(frozen=True)
class Service:
    """A service of the contract, and the servicer that implements it."""

    descriptor: ServiceDescriptor
    servicer: Any


class Context:
    """The part of gRPC's context that servicers use. Deadlines and cancellations are in `datas3t.server.call`."""

    def set_code(self, code: object) -> None:
        """Do nothing. Generated servicers set UNIMPLEMENTED before they raise it."""

    def set_details(self, details: str) -> None:
        """Do nothing, as in `set_code`."""
