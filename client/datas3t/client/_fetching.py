"""Fetches byte ranges of archives and indices into memory, by URLs that are renewed when they end."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from datas3t.client._catalogue import Catalogue, Leased, Leases
from datas3t.client._failures import as_ours
from datas3t.client._http import Engine, Request
from datas3t.client.errors import ObjectChanged

_PARALLELISM = 16
_RETRIES = 5


class Gone(Exception):  # noqa: N818 - an event, not an error: the read is planned anew
    """A datarange was replaced, or deleted, under a read."""


class Piece(NamedTuple):
    """Bytes of a datarange's archive, or of its index."""

    leased: Leased
    bytes: range
    of_index: bool = False


Fetch: TypeAlias = Callable[[Sequence[Piece]], list[bytes]]
"""Answers the pieces' bytes, in their order."""


def fetcher(engine: Engine, leases: Leases, catalogue: Catalogue) -> Fetch:
    """Fetches pieces of the catalogue's dataranges. Raises Gone where one is no longer there; ObjectChanged where it
    should be, but S3 has another object or none."""

    def fetch(pieces: Sequence[Piece]) -> list[bytes]:
        if not pieces:
            return []
        try:
            with as_ours():
                requests = [_request(leases, catalogue, piece) for piece in pieces]
                return engine.fetch(requests, parallelism=_PARALLELISM, retries=_RETRIES)
        except ObjectChanged:
            now = leases.renew(catalogue)
            if any(_same(now, piece.leased) is None for piece in pieces):
                raise Gone from None
            raise

    return fetch


class _Address:
    """The URL of an object, out of the newest catalogue where the one at hand has ended."""

    __slots__ = ("_catalogue", "_leases", "_piece")

    def __init__(self, leases: Leases, catalogue: Catalogue, piece: Piece) -> None:
        self._leases = leases
        self._catalogue = catalogue
        self._piece = piece

    def __call__(self, expired: bool) -> str:
        if expired or time.time() >= self._catalogue.stale_at:
            self._catalogue = self._leases.renew(self._catalogue)
        leased = _same(self._catalogue, self._piece.leased)
        if leased is None:
            raise Gone
        return leased.index_url if self._piece.of_index else leased.data_url


def _request(leases: Leases, catalogue: Catalogue, piece: Piece) -> Request:
    etag = piece.leased.index_etag if piece.of_index else piece.leased.data_etag
    return Request("GET", _Address(leases, catalogue, piece), start=piece.bytes.start, stop=piece.bytes.stop, etag=etag)


def _same(catalogue: Catalogue, leased: Leased) -> Leased | None:
    """The datarange as the catalogue has it, if it is made of the same objects."""
    found = catalogue.with_id(leased.id)
    same = found is not None and (found.data_etag, found.index_etag) == (leased.data_etag, leased.index_etag)
    return found if same else None
