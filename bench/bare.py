"""Bare pycurl: how fast a client without any checks is, as the upper limit for the others."""

import os
from collections.abc import Callable, Iterable, Sequence

import pycurl


class Bare:
    """Requests as pycurl's documentation shows them, over warm connections, checking only the status.

    Args:
        parallelism: How many requests are in flight at a time.
    """

    def __init__(self, parallelism: int) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, 256)
        self._handles = [self._handle() for _ in range(parallelism)]

    def _handle(self) -> pycurl.Curl:
        curl = pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.TCP_NODELAY, 1)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.BUFFERSIZE, 512 << 10)
        curl.setopt(pycurl.UPLOAD_BUFFERSIZE, 2 << 20)
        return curl

    def run(self, setups: Iterable[Callable[[pycurl.Curl], None]], done: Callable[[pycurl.Curl], None]) -> None:
        """Make a request for each of the setups, which prepare a handle, and call `done` with the handle after it."""
        more, running = iter(setups), 0

        def start(curl: pycurl.Curl) -> int:
            setup = next(more, None)
            if setup is None:
                return 0
            setup(curl)
            self._multi.add_handle(curl)
            return 1

        running = sum(start(curl) for curl in self._handles)
        while running:
            self._multi.perform()
            _, good, bad = self._multi.info_read(256)
            assert not bad, bad
            for curl in good:
                self._multi.remove_handle(curl)
                assert curl.getinfo(pycurl.RESPONSE_CODE) in (200, 206)
                done(curl)
                running += start(curl) - 1
            if running and not good:
                self._multi.select(1)

    def fetch(self, places: Sequence[tuple[str, range]]) -> list[bytes]:
        """Return the bytes of these ranges, in their order."""
        bodies: list[bytes] = [b""] * len(places)
        pieces: dict[pycurl.Curl, tuple[int, list[bytes]]] = {}

        def setup(number: int, url: str, place: range) -> Callable[[pycurl.Curl], None]:
            def prepare(curl: pycurl.Curl) -> None:
                chunks: list[bytes] = []
                pieces[curl] = number, chunks
                curl.setopt(pycurl.URL, url)
                curl.setopt(pycurl.WRITEFUNCTION, chunks.append)
                curl.setopt(pycurl.RANGE, f"{place.start}-{place.stop - 1}")

            return prepare

        def keep(curl: pycurl.Curl) -> None:
            number, chunks = pieces[curl]
            bodies[number] = b"".join(chunks)

        self.run((setup(number, url, place) for number, (url, place) in enumerate(places)), keep)
        return bodies

    def read(self, places: Iterable[tuple[str, range]]) -> int:
        """Fetch these ranges without keeping them, and return the number of bytes."""
        total = 0

        def count(piece: bytes) -> None:
            nonlocal total
            total += len(piece)

        def setup(place: tuple[str, range]) -> Callable[[pycurl.Curl], None]:
            def prepare(curl: pycurl.Curl) -> None:
                curl.setopt(pycurl.URL, place[0])
                curl.setopt(pycurl.WRITEFUNCTION, count)
                curl.setopt(pycurl.RANGE, f"{place[1].start}-{place[1].stop - 1}")

            return prepare

        self.run(map(setup, places), lambda _: None)
        return total

    def download(self, url: str, ranges: list[range], fd: int) -> None:
        """Write these ranges to the same positions of a file."""

        def setup(place: range) -> Callable[[pycurl.Curl], None]:
            at = place.start

            def write(piece: bytes) -> None:
                nonlocal at
                os.pwrite(fd, piece, at)
                at += len(piece)

            def prepare(curl: pycurl.Curl) -> None:
                curl.setopt(pycurl.URL, url)
                curl.setopt(pycurl.WRITEFUNCTION, write)
                curl.setopt(pycurl.RANGE, f"{place.start}-{place.stop - 1}")

            return prepare

        self.run(map(setup, ranges), lambda _: None)

    def upload(self, url: str, ranges: list[range], fd: int) -> None:
        """PUT these ranges of a file, each to the URL followed by a slash and its start."""

        def setup(place: range) -> Callable[[pycurl.Curl], None]:
            at = place.start

            def read(size: int) -> bytes:
                nonlocal at
                piece = os.pread(fd, min(size, place.stop - at), at)
                at += len(piece)
                return piece

            def prepare(curl: pycurl.Curl) -> None:
                curl.setopt(pycurl.URL, f"{url}/{place.start}")
                curl.setopt(pycurl.UPLOAD, 1)
                curl.setopt(pycurl.HTTPHEADER, ["Expect:"])
                curl.setopt(pycurl.INFILESIZE_LARGE, len(place))
                curl.setopt(pycurl.READFUNCTION, read)

            return prepare

        self.run(map(setup, ranges), lambda _: None)


def cut(size: int, step: int) -> list[range]:
    """Return the ranges of `step` bytes that make up `size` bytes."""
    return [range(start, min(start + step, size)) for start in range(0, size, step)]
