"""Dataranges as the server lists them, one page after the other, without keeping them."""

from collections.abc import Iterator

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._reading.signed import Columns, SignedDatarange

_PAGE = 1000  # dataranges that are listed at a time


class Listed(SignedDatarange):
    """A datarange, with the size of its archive in bytes, and the extension of all its entries, if they have one."""

    __slots__ = ("extension", "size")

    def __init__(self, columns: Columns, row: int, lifetime: Lifetime, size: int, extension: str) -> None:
        super().__init__(columns, row, lifetime)
        self.size = size
        self.extension = extension


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
        listing = page.columns
        extensions = listing.extensions or [""] * len(listing.datarange_ids)
        known = {
            number: (size, extension)
            for number, size, extension in zip(listing.datarange_ids, listing.size_bytes, extensions, strict=True)
        }
        known |= {each.datarange_id: (each.size_bytes, each.extension) for each in page.dataranges}
        for row in range(len(columns)):
            yield Listed(columns, row, lifetime, *known[columns.ids[row]])
        if not page.next_page_token:
            return
        first = columns.lasts[-1] + 1
