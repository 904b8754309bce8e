"""The client of a datas3t server."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from pyroaring import BitMap64

from datas3t.client._calls import datas3ts, imports
from datas3t.client._calls.bucket_methods import BucketMethods
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.dataranges import Datarange, Segment
from datas3t.client._calls.datas3ts import Cleared, Datas3tInfo
from datas3t.client._calls.imports import Imported
from datas3t.client._calls.keys import Reservation
from datas3t.client._calls.optimize import ProposedAggregate
from datas3t.client._calls.session import Session
from datas3t.client._calls.tokens import TokenMethods
from datas3t.client._files.by_name import FilesByName
from datas3t.client._files.shards import Shards
from datas3t.client._reading.catalogue_cache import MAX_SIZE
from datas3t.client._transfers import download
from datas3t.client._transfers.aggregate import Aggregated
from datas3t.client._transfers.upload import Uploaded
from datas3t.client.handle import Datas3t
from datas3t.client.progress import Progress


class Client(BucketMethods, TokenMethods, FilesByName, Shards):
    """A client of the datas3t server at one address.

    Nothing is sent before the first call. A client may be used from many threads at once and after a fork, and can be
    pickled: another process opens its own connections. Idempotent calls are retried for two minutes while a server that
    has responded before is away, as during a restart, and for two seconds if none has.

    Every error is a `Datas3tError`. Besides those that a method names, each may raise Unavailable and DeadlineExceeded.

    Example:
        >>> with Client("http://localhost:8765") as client:
        ...     client.add_datas3t("photos", bucket="local")
        ...     photos = client.datas3t("photos")
        ...     photos.upload_tar("batch.tar")
        ...     photo = photos.get(42)

    Args:
        url: The server's address: "http://host:port", or "https://host" for TLS. Without a port it is 80 or 443. None:
            the environment variable DATAS3T_SERVER_URL, otherwise http://localhost:8765.
        timeout: Seconds that one attempt of a call may take.
        cache_dir: The folder in which indices and checksums are kept, shared by all processes. None: the environment
            variable DATAS3T_CACHE_DIR, otherwise the user's cache folder.
        max_cache_size: The size of that cache, in bytes.
        verify: Whether each content that is read is compared with its checksum, if its datarange has checksums.
        ca_file: The certificates to trust for connections to the server, not for S3. None: the environment variable
            DATAS3T_CA_FILE, otherwise SSL_CERT_FILE, otherwise the system's.
        token: What a server with `--auth tokens` is shown. None: the environment variable DATAS3T_TOKEN, otherwise the
            content of the file that DATAS3T_TOKEN_FILE names, which is read again when it changes, otherwise what
            `datas3t login` stored for that scheme, host and port. It is pickled with the client, and in no repr.

    Raises:
        InvalidArgument: The URL or the token is not valid.
        FileError: The stored tokens cannot be read.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: float = 60.0,
        cache_dir: str | os.PathLike[str] | None = None,
        max_cache_size: int = 1 << 30,
        verify: bool = True,
        ca_file: str | os.PathLike[str] | None = None,
        token: str | None = None,
    ) -> None:
        self._session = Session(
            url,
            timeout=timeout,
            cache_dir=cache_dir,
            max_cache_size=max_cache_size,
            verify=verify,
            ca_file=ca_file,
            token=token,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def close(self) -> None:
        """Close the connections; calls in flight in other threads raise FailedPrecondition.

        A later call opens new connections.
        """
        self._session.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._session.url

    @property
    def cache_dir(self) -> Path:
        """The folder in which indices are kept."""
        return self._session.cache_dir

    @property
    def max_cache_size(self) -> int:
        """The size of that cache, in bytes."""
        return self._session.max_cache_size

    @property
    def connection(self) -> Connection:
        """This process's gRPC channel with the generated stubs, for calls as the protos define them.

        Deadlines, retries and errors are the same as for the methods of this class.

        Example:
            >>> client.connection.datarange.ListDataranges(v1.ListDatarangesRequest(datas3t_name="photos"))
        """
        return self._session.connection

    # Datas3ts

    def add_datas3t(self, name: str, *, bucket: str) -> None:
        """Add an empty datas3t. Calling this again with the same bucket does nothing.

        Args:
            name: 1 to 255 letters, digits, "_" and "-".
            bucket: The name of the bucket configuration to use.

        Raises:
            NotFound: There is no such bucket configuration.
            AlreadyExists: A datas3t of that name uses another bucket.
            InvalidArgument: The name is not allowed.
        """
        datas3ts.add(self.connection, name, bucket)

    def list_datas3ts(self) -> list[Datas3tInfo]:
        """Return the datas3ts and a summary of their contents, by name."""
        return datas3ts.list_all(self.connection)

    def delete_datas3t(self, name: str, *, purge_versions: bool = False) -> None:
        """Delete an empty datas3t.

        Args:
            name: The name of the datas3t.
            purge_versions: Whether all versions and delete markers of its objects that are still to be deleted are
                removed as well, in a bucket with versioning.

        Raises:
            NotFound: It does not exist.
            FailedPrecondition: It still has dataranges; `Datas3t.clear` deletes them.
        """
        datas3ts.delete(self.connection, name, purge_versions)

    def import_datas3ts(self, bucket: str, *, progress: Progress | None = None) -> Imported:
        """Add every datas3t and datarange that a bucket holds and the server does not know.

        Use it after the loss of a database, or to move datas3ts to another server. Indices that are missing or wrong
        are made again. Calling this again changes nothing.

        Args:
            bucket: The name of a bucket configuration.
            progress: Is called with the phase "import" and the number of objects checked; the total is always 0,
                because it is not known in advance.

        Returns:
            The datas3ts that were added or gained dataranges, and the objects that were left out, with the reasons.

        Raises:
            NotFound: There is no such bucket configuration.
            FailedPrecondition: S3 refuses its credentials.
        """
        return imports.run(self.connection, bucket, progress=progress)

    def datapoints_bitmap(self, name: str) -> BitMap64:
        """Return the keys of all datapoints of a datas3t.

        Raises:
            NotFound: The datas3t does not exist.
        """
        return datas3ts.bitmap(self.connection, name)

    def datas3t(self, name: str, *, max_catalogue: int = MAX_SIZE) -> Datas3t:
        """Return a handle of a datas3t, to read datapoints, upload, download, aggregate and delete.

        No request is made. If the datas3t does not exist, the first use of the handle raises NotFound.

        Args:
            name: The name of the datas3t.
            max_catalogue: How many bytes of dataranges and their URLs the handle keeps in memory, about 200 for each.
                Of more dataranges, those that were not used for the longest time are forgotten, and asked for again
                when they are needed.

        Raises:
            InvalidArgument: `max_catalogue` is negative.
        """
        return Datas3t(self._session, name, max_catalogue)

    # The same as methods of the handle, for code that has only a name

    def upload_tar(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        max_parallelism: int = 4,
        max_retries: int = 3,
        reservation_id: int = 0,
        names: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> Uploaded:
        """Upload a TAR archive; see `Datas3t.upload_tar`."""
        return self.datas3t(name).upload_tar(
            path,
            max_parallelism=max_parallelism,
            max_retries=max_retries,
            reservation_id=reservation_id,
            names=names,
            progress=progress,
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
        """Download datapoints as a TAR archive; see `Datas3t.download_tar`."""
        return self.datas3t(name).download_tar(
            first,
            last,
            output,
            max_parallelism=max_parallelism,
            max_retries=max_retries,
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
    ) -> Aggregated:
        """Merge dataranges into one; see `Datas3t.aggregate`."""
        return self.datas3t(name).aggregate(
            first, last, max_parallelism=max_parallelism, max_retries=max_retries, progress=progress
        )

    def plan_aggregates(
        self,
        name: str,
        *,
        min_score: float | None = None,
        target_size: int = 0,
        max_aggregate_size: int = 0,
        max_operations: int = 0,
    ) -> list[ProposedAggregate]:
        """Return aggregates that are worth their cost; see `Datas3t.plan_aggregates`."""
        return self.datas3t(name).plan_aggregates(
            min_score=min_score,
            target_size=target_size,
            max_aggregate_size=max_aggregate_size,
            max_operations=max_operations,
        )

    def next_key(self, name: str) -> int:
        """Return the key after the greatest one of a datas3t; see `Datas3t.next_key`."""
        return self.datas3t(name).next_key()

    def reserve_keys(self, name: str, count: int, request_id: str | None = None) -> Reservation:
        """Reserve consecutive keys of a datas3t; see `Datas3t.reserve_keys`."""
        return self.datas3t(name).reserve_keys(count, request_id)

    def list_dataranges(self, name: str) -> list[Datarange]:
        """Return the dataranges of a datas3t; see `Datas3t.list_dataranges`."""
        return self.datas3t(name).list_dataranges()

    def delete_dataranges(self, name: str, first: int, last: int, *, purge_versions: bool = False) -> list[Datarange]:
        """Delete dataranges; see `Datas3t.delete_dataranges`."""
        return self.datas3t(name).delete_dataranges(first, last, purge_versions=purge_versions)

    def clear_datas3t(self, name: str, *, purge_versions: bool = False) -> Cleared:
        """Delete all dataranges of a datas3t; see `Datas3t.clear`."""
        return self.datas3t(name).clear(purge_versions=purge_versions)

    def presign_download(self, name: str, first: int, last: int) -> list[Segment]:
        """Return presigned URLs and byte ranges of datapoints; see `Datas3t.presign_download`."""
        return self.datas3t(name).presign_download(first, last)
