"""Archives at an HTTP server of the tests' own, and handles on them: neither server nor S3, every byte counted."""

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datas3t.archive import names, tar
from datas3t.client import Client
from datas3t.client._reading import fetching, many, one, places, scanning
from datas3t.client._reading.catalogue import Catalogue, Leased
from datas3t.client.handle import Datas3t
from tests.support.httpd import Httpd, etag_of, httpd

_numbers = itertools.count(1)
_KNOW_THE_LARGEST = (fetching, many, one, places, scanning)


class Shelf:
    """Where archives are put to be read. No object's address is used twice, so that nothing is known of a new one."""

    def __init__(self, server: Httpd, client: Client) -> None:
        self.server = server
        self.client = client
        self.objects: dict[str, bytes] = {}
        server.objects = self.objects

    def handle(self, *archives: bytes, index: bytes | None = None) -> Datas3t:
        """A new handle on these archives, whose keys ascend; `index` in place of the right one of each."""
        handle = self.client.datas3t("served")
        dataranges = [self._put(archive, index) for archive in archives]
        handle._leases._catalogue = catalogue(dataranges)
        return handle

    def again(self, handle: Datas3t) -> Datas3t:
        """Another handle on the same."""
        another = self.client.datas3t("served")
        another._leases._catalogue = handle._leases.current()
        return another

    @property
    def index_gets(self) -> int:
        """How many requests there were for indices."""
        return sum(seen.path.endswith(".index") for seen in self.server.requests)

    def _put(self, archive: bytes, index: bytes | None) -> Leased:
        found = tar.scan(lambda start, stop: archive[start:stop], len(archive))
        number = next(_numbers)
        path, index_path = f"/{number}.tar", f"/{number}.index"
        self.objects[path] = archive
        self.objects[index_path] = found.index if index is None else index
        return Leased(
            id=number,
            first=found.first_key,
            last=found.first_key + found.count - 1,
            size=len(archive),
            entries_end=found.entries_end,
            data_etag=etag_of(path),
            index_etag=etag_of(index_path),
            data_url=self.server.url + path,
            index_url=self.server.url + index_path,
        )


def catalogue(dataranges: list[Leased], first: int = 0, last: int = names.MAX_KEY) -> Catalogue:
    """One whose URLs do not end."""
    return Catalogue(dataranges, math.inf, math.inf, time.monotonic(), first, last)


@contextmanager
def shelf(cache: Path) -> Iterator[Shelf]:
    """An empty shelf; indices are kept in the folder `cache`."""
    with httpd({}) as server, Client("http://127.0.0.1:9", cache_dir=cache) as client:
        yield Shelf(server, client)


def set_largest(patch: pytest.MonkeyPatch, size: int) -> None:
    """A datapoint above so many bytes is a large one, that is fetched in parts."""
    for module in _KNOW_THE_LARGEST:
        patch.setattr(module, "LARGEST", size)
