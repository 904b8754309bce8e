"""Contestants: the SDK, its engine alone, bare pycurl as the upper limit, and a presign call per read."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.bare import Bare
from bench.contestant import Reader
from bench.places import Place
from datas3t.archive.index import BLOCK
from datas3t.client import Client
from datas3t.transport import Engine, Range, Request

_STEP = 8 << 20
_THREADS = 16


class Sdk(Reader):
    """A handle with default settings."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._datas3t = Client(place.server_url).datas3t(place.name)

    def get(self, key: int) -> bytes:
        return self._datas3t.get(key)

    def get_many(self, keys: Sequence[int]) -> Sequence[bytes]:
        return self._datas3t.get_many(keys)

    def scan(self) -> Iterator[bytes]:
        return (datapoint.content for datapoint in self._datas3t.scan())

    def batches(self, batches: Iterable[Sequence[int]]) -> Iterator[Sequence[bytes]]:
        return self._datas3t.batches(batches)


class SdkViews(Sdk):
    """The same, with contents that are not copied."""

    def scan(self) -> Iterator[bytes]:
        return (bytes(datapoint.content) for datapoint in self._datas3t.scan(copy=False))

    def skim(self) -> int:
        return sum(1 for _ in self._datas3t.scan(copy=False))


class EngineAlone(Reader):
    """The SDK's engine with known ranges: without server, index and planning."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._engine = Engine()

    def get_many(self, keys: Sequence[int]) -> Sequence[bytes]:
        parallelism = min(len(keys), self.place.in_flight)
        contents = [b""] * len(keys)
        self._engine.each([self._range(key) for key in keys], contents.__setitem__, parallelism=parallelism)
        return contents

    def skim(self) -> int:
        etags = {archive.url: archive.etag for archive in self.place.archives}
        self._engine.run(
            (Request("GET", url, part.start, part.stop, etags[url]) for url, part in self.place.sequence(_STEP)),
            parallelism=4,
        )
        return self.place.total

    def _range(self, key: int) -> Range:
        archive, content = self.place.content(key)
        return Range(archive.url, archive.etag, content.start, content.stop)


class BarePycurl(Reader):
    """Libcurl with open connections and the same known ranges. Only the status is checked."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._one, self._many, self._few = Bare(1), Bare(place.in_flight), Bare(4)

    def get_many(self, keys: Sequence[int]) -> Sequence[bytes]:
        places = [(archive.url, content) for archive, content in map(self.place.content, keys)]
        return (self._one if len(keys) == 1 else self._many).fetch(places)

    def skim(self) -> int:
        self._few.read(self.place.sequence(_STEP))
        return self.place.total


class PresignEach(Reader):
    """The way of the predecessor system, in threads: the server signs a URL for each read."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._client, self._engine = Client(place.server_url), Engine()
        self._threads = ThreadPoolExecutor(_THREADS)

    def get(self, key: int) -> bytes:
        (segment,) = self._client.presign_download(self.place.name, key, key)
        request = Request("GET", segment.url, segment.start, segment.stop, segment.etag)
        (entry,) = self._engine.fetch([request], parallelism=1)
        return entry[BLOCK : BLOCK + self.place.size]

    def get_many(self, keys: Sequence[int]) -> Sequence[bytes]:
        return list(self._threads.map(self.get, keys))
