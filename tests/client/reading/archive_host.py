"""Archives on a local HTTP server, and handles that read them without a datas3t server or S3.

The HTTP server counts every request and every byte.
"""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from datas3t.archive import names, tar
from datas3t.client import Client
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._reading import datapoint, fetching, locations, many, scanning
from datas3t.client._reading.catalogue import Catalogue
from datas3t.client._reading.signed import Columns
from datas3t.client.handle import Datas3t
from tests.support.httpd import Httpd, etag_of, httpd

_numbers = itertools.count(1)
_MODULES_WITH_MAX_REQUEST = (datapoint, fetching, locations, many, scanning)


class ArchiveHost:
    """Serves archives over HTTP. Every object has a new URL, so that nothing cached applies to it."""

    def __init__(self, server: Httpd, client: Client) -> None:
        self.server = server
        self.client = client
        self.objects: dict[str, bytes] = {}
        server.objects = self.objects

    def handle(self, *archives: bytes, index: bytes | None = None, checksums: bool | Sequence[int] = False) -> Datas3t:
        """Serve archives with ascending keys and return a handle on them.

        Args:
            archives: The archives, each one datarange.
            index: Served as the index of each archive instead of the correct one.
            checksums: Which of the archives have checksums: all, none, or those with these numbers.
        """
        handle, columns = self.client.datas3t("served"), Columns()
        for number, archive in enumerate(archives):
            self._add(columns, archive, index, checksums if isinstance(checksums, bool) else number in checksums)
        hold(handle, catalogue_of(columns))
        return handle

    def reopen(self, handle: Datas3t) -> Datas3t:
        """Return another handle on the same archives."""
        another = self.client.datas3t("served")
        hold(another, handle._reader.catalogues.covering(0, 0, names.MAX_KEY))
        return another

    @property
    def index_gets(self) -> int:
        """The number of requests for indices."""
        return sum(seen.path.endswith(".index") for seen in self.server.requests)

    def _add(self, columns: Columns, archive: bytes, index: bytes | None, with_checksums: bool) -> None:
        scanned = tar.scan(lambda start, stop: archive[start:stop], len(archive), checksums=True)
        number = next(_numbers)
        paths = [f"/bucket/{number}.tar", f"/bucket/{number}.index"]
        if with_checksums:
            paths.append(f"/bucket/{number}.crc32c")
            self.objects[paths[2]] = scanned.checksums
        self.objects[paths[0]] = archive
        self.objects[paths[1]] = scanned.index if index is None else index
        urls = [self.server.url + path for path in paths]
        last = scanned.first_key + scanned.count - 1
        etags = list(map(etag_of, paths))
        columns.add(number, scanned.first_key, last, scanned.entries_end, urls, etags)


def catalogue_of(columns: Columns, first: int = 0, last: int = names.MAX_KEY) -> Catalogue:
    """Return a catalogue whose URLs never expire."""
    now = time.monotonic()
    return Catalogue(columns, Lifetime(now, math.inf, math.inf), now, first, last)


def hold(handle: Datas3t, catalogue: Catalogue) -> None:
    """Let a handle hold this catalogue, as if the server had listed it."""
    handle._reader.catalogues._install(catalogue)


@contextmanager
def archive_host(cache: Path) -> Iterator[ArchiveHost]:
    """Start a host without archives, whose handles cache indices in the folder `cache`."""
    with httpd({}) as server, Client("http://127.0.0.1:9", cache_dir=cache) as client:
        yield ArchiveHost(server, client)


def set_max_request(patch: pytest.MonkeyPatch, size: int) -> None:
    """Set the limit in bytes above which a datapoint is fetched in parts."""
    for module in _MODULES_WITH_MAX_REQUEST:
        patch.setattr(module, "MAX_REQUEST", size)
