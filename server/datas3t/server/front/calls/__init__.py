"""What surrounds every call over gRPC and REST: its service, graceful shutdown, logging, metrics and errors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor


@dataclass(frozen=True)
class Service:
    """A service of the contract, the servicer that implements it, and the generated function that registers it."""

    descriptor: ServiceDescriptor
    servicer: Any
    add_to_server: Callable[[Any, grpc.Server], None]
