"""Client: the one door to a datas3t server: the contract's calls, and transfers between files and S3."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from pyroaring import BitMap64

from datas3t.client._calls import buckets, dataranges, datas3ts, imports, optimize
from datas3t.client._calls.buckets import Bucket
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.dataranges import Datarange, Segment
from datas3t.client._calls.datas3ts import Cleared, Datas3tInfo
from datas3t.client._calls.imports import Imported
from datas3t.client._calls.session import Session
from datas3t.client._transfers import aggregate, download, upload
from datas3t.client._transfers.tuning import Tuning
from datas3t.client.handle import Datas3t
from datas3t.client.progress import Progress


class Client:
    """A client of the server at `url`: "http://host:port", or "https://host" with TLS; without a port, 80 or 443.

    Without `url` the environment's DATAS3T_SERVER_URL counts, then http://localhost:8765. `timeout`, in seconds, is how
    long one attempt of a call may take. Indices that are read are kept in `cache_dir` (the environment's
    DATAS3T_CACHE_DIR, then the user's cache folder), which all processes share, up to `max_cache_size` bytes. Nothing
    is sent before the first call.

    May be used from many threads at once and after a fork, and pickles: the other process makes its own connections.
    Calls that may be repeated are, while the server is away for moments. Every error is a Datas3tError; beside those
    that a method names there are Unavailable and DeadlineExceeded.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: float = 60.0,
        cache_dir: str | os.PathLike[str] | None = None,
        max_cache_size: int = 1 << 30,
    ) -> None:
        self._session = Session(url, timeout=timeout, cache_dir=cache_dir, max_cache_size=max_cache_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def close(self) -> None:
        """Ends the connections; calls of other threads meanwhile raise FailedPrecondition. Used again, the client makes
        new ones."""
        self._session.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._session.url

    @property
    def cache_dir(self) -> Path:
        """The folder where indices are kept."""
        return self._session.cache_dir

    @property
    def max_cache_size(self) -> int:
        """The bytes that may be kept there."""
        return self._session.max_cache_size

    @property
    def connection(self) -> Connection:
        """This process's channel with the generated stubs, for calls as the protos have them:
        `client.connection.datarange.ListDataranges(request)`. Retries and errors are as in the methods here."""
        return self._session.connection

    # Bucket configurations

    def add_bucket(
        self, name: str, *, endpoint: str, bucket: str, access_key: str, secret_key: str, region: str | None = None
    ) -> None:
        """Adds a bucket configuration, after the server has tried it. `endpoint` has its scheme; `region` is us-east-1
        unless given. Repeated with the same settings it does nothing.

        Raises AlreadyExists for a name or a bucket that is taken; InvalidArgument where endpoint, bucket or credentials
        do not work: `reason` says which.
        """
        buckets.add(
            self.connection,
            name,
            endpoint=endpoint,
            bucket=bucket,
            access_key=access_key,
            secret_key=secret_key,
            region=region,
        )

    def list_buckets(self) -> list[Bucket]:
        """The bucket configurations, by name."""
        return buckets.list_all(self.connection)

    def update_bucket(self, name: str, *, access_key: str, secret_key: str) -> None:
        """Gives a bucket configuration new credentials, after the server has tried them.

        Raises NotFound; InvalidArgument where S3 refuses them.
        """
        buckets.update(self.connection, name, access_key, secret_key)

    def delete_bucket(self, name: str) -> None:
        """Removes a bucket configuration; no object is touched.

        Raises NotFound; FailedPrecondition while a datas3t uses it or objects in it wait for deletion.
        """
        buckets.delete(self.connection, name)

    # Datas3ts

    def add_datas3t(self, name: str, *, bucket: str) -> None:
        """Adds a datas3t on a bucket configuration. Repeated with the same bucket it does nothing.

        Raises NotFound for the bucket; AlreadyExists where the name is on another one; InvalidArgument for the name.
        """
        datas3ts.add(self.connection, name, bucket)

    def list_datas3ts(self) -> list[Datas3tInfo]:
        """The datas3ts, by name, with what they hold."""
        return datas3ts.list_all(self.connection)

    def clear_datas3t(self, name: str) -> Cleared:
        """Removes all dataranges of a datas3t and ends its open uploads; objects are deleted in the background.

        Raises NotFound.
        """
        return datas3ts.clear(self.connection, name)

    def delete_datas3t(self, name: str) -> None:
        """Removes an empty datas3t. Raises NotFound; FailedPrecondition while it holds dataranges."""
        datas3ts.delete(self.connection, name)

    def import_datas3ts(self, bucket: str, *, progress: Progress | None = None) -> Imported:
        """Adds every datas3t and datarange that stands in the bucket of a bucket configuration and is not known yet:
        after the loss of a database, or to move one. Missing or wrong indices are made anew. Repeated it changes
        nothing; what is left out is told with the reason.

        `progress` is called with ("import", objects looked at, 0): how many there are shows only at the end.
        Raises NotFound for the bucket configuration; FailedPrecondition where S3 refuses its credentials.
        """
        return imports.run(self.connection, bucket, progress=progress)

    def datapoints_bitmap(self, name: str) -> BitMap64:
        """The keys of the datapoints present. Raises NotFound."""
        return datas3ts.bitmap(self.connection, name)

    def datas3t(self, name: str) -> Datas3t:
        """A handle to read datapoints with. No request is made: a name that does not exist shows at the first use."""
        return Datas3t(self._session, name)

    # Dataranges

    def upload_tar(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        max_parallelism: int = 4,
        max_retries: int = 3,
        progress: Progress | None = None,
    ) -> upload.Uploaded:
        """Uploads the TAR archive at `path` as a datarange of the datas3t, and returns its keys and size.

        The archive is checked first, in constant memory. `max_parallelism` parts are under way at a time, each tried
        again up to `max_retries` times. `progress` is called with ("index" | "resume" | "upload" | "complete", current,
        total): bytes, and 0 or 1 of 1 for "complete". The file must not change meanwhile.

        Interrupted, killed or cut off, the same call goes on where it stopped. Raises ArchiveError naming the entry and
        the rule that it breaks; FileError for the file; NotFound for the datas3t; AlreadyExists where the keys overlap
        a datarange; TransferFailed where S3 cannot be reached.
        """
        return upload.upload_tar(
            self.connection, self.url, name, path, tuning=Tuning(max_parallelism, max_retries), progress=progress
        )

    def download_tar(
        self,
        name: str,
        first: int,
        last: int,
        output: str | os.PathLike[str],
        *,
        max_parallelism: int = 4,
        max_retries: int = 3,
        chunk_size: int = download.CHUNK_SIZE,
        progress: Progress | None = None,
    ) -> download.Downloaded:
        """Writes the datapoints `first` to `last` as a TAR archive to `output`: the entries' own bytes and an end
        marker. Keys that do not exist are left out.

        `output` appears whole or not at all; until then the bytes are beside it, in `.<name>.datas3t-part`, and the
        same call goes on from there. `max_parallelism` requests of up to `chunk_size` bytes are under way at a time,
        each tried again up to `max_retries` times. `progress` is called with ("download", bytes, total).

        Raises NotFound where there is no such datas3t or no datapoint in the range; FileError for the output;
        ObjectChanged where S3 has other bytes than were uploaded; TransferFailed where S3 cannot be reached.
        """
        return download.download_tar(
            self.connection,
            name,
            first,
            last,
            output,
            tuning=Tuning(max_parallelism, max_retries),
            chunk_size=chunk_size,
            progress=progress,
        )

    def aggregate(
        self,
        name: str,
        first: int,
        last: int,
        *,
        max_parallelism: int = 4,
        max_retries: int = 3,
        progress: Progress | None = None,
    ) -> aggregate.Aggregated:
        """Makes one datarange of all dataranges from `first` to `last`, with exactly their datapoints. The range must
        begin and end with one, have no gap and hold two at least.

        S3 copies what its rules allow by itself; archives too small for that, below 5 MiB, are fetched and sent. Where
        it refuses to copy, all bytes are. `max_parallelism` requests are under way at a time, each tried again up to
        `max_retries` times. `progress` is called with ("plan" | "copy" | "move" | "complete", current, total): parts,
        bytes, bytes fetched and sent, and 0 or 1 of 1. Readers notice nothing.

        Interrupted, killed or cut off, the same call goes on where it stopped. Raises InvalidArgument for a range that
        cannot be aggregated, with `nearest_first` and `nearest_last` in its metadata where another one can; Aborted
        where a source was deleted or aggregated meanwhile; NotFound for the datas3t; TransferFailed where S3 cannot be
        reached.
        """
        return aggregate.aggregate(
            self.connection, self.url, name, first, last, tuning=Tuning(max_parallelism, max_retries), progress=progress
        )

    def list_dataranges(self, name: str) -> list[Datarange]:
        """The dataranges of a datas3t, by first key. Raises NotFound."""
        return dataranges.list_all(self.connection, name)

    def delete_dataranges(self, name: str, first: int, last: int) -> list[Datarange]:
        """Removes the dataranges from `first` to `last`, one or many, with their objects, and returns them. The first
        must begin, the last end, with exactly these keys.

        Raises NotFound for the datas3t or where there is none; InvalidArgument where the range cuts through one;
        Aborted where some were merged meanwhile.
        """
        return dataranges.delete(self.connection, name, first, last)

    def plan_aggregates(
        self,
        name: str,
        *,
        min_score: float | None = None,
        target_size: int = 0,
        max_aggregate_size: int = 0,
        max_operations: int = 0,
    ) -> list[optimize.ProposedAggregate]:
        """Aggregates that are worth their cost, best first, of archives below `target_size` (0: 1 GiB) into archives of
        no more than `max_aggregate_size` (0: 5 GiB); `max_operations` of them at most (0: 10), each scoring `min_score`
        at least (None: 1.0). Nothing is started. Sizes are bytes.

        Raises NotFound; InvalidArgument for a limit that is none.
        """
        return optimize.plan(
            self.connection,
            name,
            min_score=min_score,
            target_size=target_size,
            max_aggregate_size=max_aggregate_size,
            max_operations=max_operations,
        )

    def presign_download(self, name: str, first: int, last: int) -> list[Segment]:
        """Signed byte ranges of the datapoints `first` to `last`: one segment for each datarange, in key order. Joined,
        with 1,024 zero bytes behind them, they are a TAR archive.

        Raises NotFound where there is no such datas3t or no datapoint in the range.
        """
        return dataranges.presign_download(self.connection, name, first, last)[0]
