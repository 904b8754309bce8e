"""Contestants with other libraries: an object per file with boto3 and obstore, ranges with obstore, webdataset."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.contestant import Reader
from bench.places import Place, single

_THREADS = 16


class Boto3Threads(Reader):
    """An object per file, read by 16 threads with a connection each."""

    def __init__(self, place: Place) -> None:
        import boto3  # noqa: PLC0415 - a process should import only the library that it measures
        from botocore.config import Config  # noqa: PLC0415

        super().__init__(place)
        self._s3 = boto3.client(
            "s3",
            endpoint_url=place.access.endpoint,
            region_name="us-east-1",
            aws_access_key_id=place.access.access_key,
            aws_secret_access_key=place.access.secret_key,
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=_THREADS),
        )
        self._threads = ThreadPoolExecutor(_THREADS)

    def get(self, key: int) -> bytes:
        return self._s3.get_object(Bucket=self.place.access.bucket, Key=single(key))["Body"].read()

    def get_many(self, keys: Sequence[int]) -> Sequence[bytes]:
        return list(self._threads.map(self.get, keys))


class _Obstore(Reader):
    """What the contestants with obstore have in common."""

    def __init__(self, place: Place) -> None:
        from obstore.store import S3Store  # noqa: PLC0415

        super().__init__(place)
        self._loop = asyncio.new_event_loop()
        self._store = S3Store(
            place.access.bucket,
            endpoint=place.access.endpoint,
            region="us-east-1",
            access_key_id=place.access.access_key,
            secret_access_key=place.access.secret_key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )


class ObstoreSingles(_Obstore):
    """An object per file, read by `place.in_flight` coroutines; single reads are without asyncio, which is faster."""

    def get(self, key: int) -> bytes:
        import obstore  # noqa: PLC0415

        return bytes(obstore.get(self._store, single(key)).bytes())

    def get_many(self, keys: Sequence[int]) -> Sequence[bytes]:
        return self._loop.run_until_complete(self._all(keys))

    async def _all(self, keys: Sequence[int]) -> list[bytes]:
        import obstore  # noqa: PLC0415

        contents: list[bytes] = [b""] * len(keys)
        rest = iter(enumerate(keys))

        async def worker() -> None:
            for number, key in rest:
                response = await obstore.get_async(self._store, single(key))
                contents[number] = bytes(await response.bytes_async())

        await asyncio.gather(*(worker() for _ in range(self.place.in_flight)))
        return contents


class ObstoreRanges(_Obstore):
    """Ranges of archives, known in advance, with a call for each archive; obstore decides which ranges to merge."""

    def get_many(self, keys: Sequence[int]) -> Sequence[bytes]:
        return self._loop.run_until_complete(self._all(keys))

    async def _all(self, keys: Sequence[int]) -> list[bytes]:
        import obstore  # noqa: PLC0415

        wanted: dict[str, list[tuple[int, range]]] = defaultdict(list)
        for number, key in enumerate(keys):
            archive, content = self.place.content(key)
            wanted[archive.object_key].append((number, content))
        fetched = await asyncio.gather(
            *(
                obstore.get_ranges_async(
                    self._store,
                    object_key,
                    starts=[content.start for _, content in places],
                    ends=[content.stop for _, content in places],
                )
                for object_key, places in wanted.items()
            )
        )
        contents: list[bytes] = [b""] * len(keys)
        for places, of_archive in zip(wanted.values(), fetched, strict=True):
            for (number, _), body in zip(places, of_archive, strict=True):
                contents[number] = bytes(body)
        return contents


class WebDataset(Reader):
    """The same archives one after the other, through curl, as webdataset's manual recommends."""

    def scan(self) -> Iterator[bytes]:
        import webdataset  # noqa: PLC0415

        urls = [f"pipe:curl -s -f '{archive.url}'" for archive in self.place.archives]
        return (sample["bin"] for sample in webdataset.WebDataset(urls, shardshuffle=False))
