"""The call that reserves keys."""

from dataclasses import dataclass
from uuid import uuid4

from datas3t import v1
from datas3t.archive.names import MAX_KEY
from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.connection import Connection
from datas3t.client.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Reservation:
    """Consecutive keys that the server has reserved.

    Attributes:
        id: The server's id, which uploads of these keys need.
        first: The first key.
        last: The last key.
    """

    id: int
    first: int
    last: int

    @property
    def count(self) -> int:
        """The number of keys."""
        return self.last - self.first + 1


def reserve(connection: Connection, name: str, count: int, request_id: str | None) -> Reservation:
    """Reserve keys; see `Datas3t.reserve_keys`."""
    check_text(request_id=request_id)
    if not 1 <= count <= MAX_KEY:
        raise InvalidArgument(f"count is {count}, but 1 to {MAX_KEY} keys can be reserved")
    response = connection.datas3t.ReserveKeys(
        v1.ReserveKeysRequest(
            datas3t_name=name, count=count, request_id=uuid4().hex if request_id is None else request_id
        )
    )
    first = response.first_datapoint_index
    return Reservation(response.reservation_id, first, first + count - 1)
