"""Dataranges as the server lists them, one page after the other, without keeping them."""

from collections.abc import Iterator

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._reading.signed import Columns, SignedDatarange

_PAGE = 1000  # dataranges that are listed at a time


class Listed(SignedDatarange):
    """A datarange, with the size of its archive in bytes."""

    __slots__ = ("size",)

    def __init__(self, columns: Columns, row: int, lifetime: Lifetime, size: int) -> None:
        super().__init__(columns, row, lifetime)
        self.size = size


def listed(connection: Connection, name: str, first: int, last: int) -> Iterator[Listed]:
    """Yield the dataranges that hold keys from `first` to `last`, in key order.

    Raises:
        NotFound: There is no datas3t with this name.
    """
    while first <= last:
        page = connection.datarange.PresignDataranges(
            v1.PresignDatarangesRequest(
                datas3t_name=name, first_datapoint=first, last_datapoint=last, page_size=_PAGE, columns=True
            )
        )
        columns, lifetime = Columns(), Lifetime.until(page.expires_at)
        columns.add_page(page)
        sizes = dict(zip(page.columns.datarange_ids, page.columns.size_bytes, strict=True))
        sizes |= {each.datarange_id: each.size_bytes for each in page.dataranges}
        for row in range(len(columns)):
            yield Listed(columns, row, lifetime, sizes[columns.ids[row]])
        if not page.next_page_token:
            return
        first = columns.lasts[-1] + 1
