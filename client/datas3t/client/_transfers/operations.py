"""Operations on one datas3t as a whole: upload, download, aggregate, list and delete."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator

from datas3t.client._calls import dataranges, datas3ts, keys, optimize
from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.dataranges import Datarange, Segment
from datas3t.client._calls.datas3ts import Cleared
from datas3t.client._calls.keys import Reservation
from datas3t.client._calls.optimize import ProposedAggregate
from datas3t.client._calls.session import Session
from datas3t.client._transfers import aggregate, download, upload
from datas3t.client._transfers.aggregate import Aggregated
from datas3t.client._transfers.download import Downloaded
from datas3t.client._transfers.task import Tuning
from datas3t.client._transfers.upload import Uploaded
from datas3t.client._transfers.verify import Verification
from datas3t.client.progress import Progress


class Operations(Verification, ABC):
    """The part of the handle `Datas3t` that does not read single datapoints."""

    def __init__(self, session: Session, name: str) -> None:
        check_text(name=name)
        self._session = session
        self._name = name

    def upload_tar(
        self,
        path: str | os.PathLike[str],
        *,
        max_parallelism: int = 4,
        max_retries: int = 3,
        reservation_id: int = 0,
        names: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> Uploaded:
        """Upload a TAR archive of numbered datapoints, such as `datas3t.client.pack` makes, as one datarange.

        The archive is checked before anything is sent, in constant memory. The bytes go straight to S3. If the call is
        interrupted or fails, the same call resumes it: parts that S3 already has are not sent again.

        Example:
            >>> photos = client.datas3t("photos")
            >>> photos.upload_tar("batch.tar")
            Uploaded(first=1, last=2450, size=104210432)

        Args:
            path: The archive. It must not change until the upload is complete.
            max_parallelism: How many parts are sent at a time.
            max_retries: How often each part is retried.
            reservation_id: The id of the reservation that the keys of the archive belong to; 0 for none.
            names: The list of names that `pack` wrote next to the archive. Then `find` and others know the datapoints
                by these names, without a slash at the start. It needs pyarrow.
            progress: Is called with the phases "index", "resume" (if there is something to resume) and "upload", in
                bytes, and "complete", 0 or 1 of 1.

        Returns:
            The keys and the size of the new datarange.

        Raises:
            ArchiveError: The archive breaks a rule of the format; the message names the entry and the rule.
            FileError: The archive or the list cannot be read, or the archive changed during the upload.
            InvalidArgument: The list has no name for a datapoint, or names others.
            NotFound: The datas3t does not exist.
            AlreadyExists: The keys overlap those of another datarange, which the message names together with the next
                free key, or are reserved by another writer. Nothing is sent, unless the other upload was completed in
                the meantime.
            TransferFailed: S3 cannot be reached, or refuses the transfer.
        """
        tuning = Tuning(max_parallelism, max_retries)
        rows_for = self._rows_named_by(names) if names is not None else None
        return upload.upload_tar(self._session, self._name, path, tuning, progress, reservation_id, rows_for)

    @abstractmethod
    def _rows_named_by(self, names: str | os.PathLike[str]) -> upload.RowsFor:
        """Return what makes the rows of the table `files` for an archive, given a list of names."""

    def download_tar(
        self,
        first: int,
        last: int,
        output: str | os.PathLike[str],
        *,
        max_parallelism: int = 4,
        max_retries: int = 3,
        chunk_size: int = download.CHUNK_SIZE,
        progress: Progress | None = None,
    ) -> Downloaded:
        """Download the datapoints from key `first` to key `last` as a TAR archive.

        The archive has the entries as they were uploaded, and an end marker. Every header is compared with its key and
        with the index, and every content with its checksum, before the output appears, complete or not at all.
        Until then its bytes are next to it, in `.<name>.datas3t-part`. If the call is interrupted or fails, the same
        call resumes it.

        Args:
            first: The first key.
            last: The last key, inclusive. Keys that do not exist are left out.
            output: The file to write; an existing file is replaced.
            max_parallelism: How many requests are made at a time.
            max_retries: How often each request is retried.
            chunk_size: The maximum number of bytes per request.
            progress: Is called with the phase "download", in bytes; "download again" and "download once more" if
                dataranges were replaced concurrently.

        Returns:
            The path and the size of the archive.

        Raises:
            NotFound: The datas3t does not exist, or has no datapoint with these keys.
            FileError: The output cannot be written.
            ArchiveError: An entry is not what the index says.
            ChecksumMismatch: A content differs from its checksum, also when both are fetched again.
            ObjectChanged: An object in S3 is missing, or not the one that was uploaded.
            Aborted: Dataranges were replaced several times during the download.
            TransferFailed: S3 cannot be reached, or refuses the transfer.
        """
        return download.download_tar(
            self._session,
            self._name,
            first,
            last,
            output,
            tuning=Tuning(max_parallelism, max_retries),
            chunk_size=chunk_size,
            progress=progress,
        )

    def aggregate(
        self,
        first: int,
        last: int,
        *,
        max_parallelism: int = 4,
        max_retries: int = 3,
        progress: Progress | None = None,
    ) -> Aggregated:
        """Merge all dataranges from key `first` to key `last` into one, with exactly their datapoints.

        Every header is compared with its key and with the index first; contents are read only where skipping them takes
        longer. Then S3 copies what its rules allow. Archives below 5 MiB are fetched and sent, and so is everything if
        S3 refuses to copy. Readers are not affected. If the call is interrupted or fails, the same call resumes it.

        Args:
            first: The first key of the first datarange.
            last: The last key of the last datarange. There must be at least two dataranges, and no gap between them.
            max_parallelism: How many requests are made at a time.
            max_retries: How often each request is retried.
            progress: Is called with the phases "check", in datapoints; "plan", in parts; "copy", in bytes; "move", in
                bytes that are fetched and bytes that are sent; and "complete", 0 or 1 of 1.

        Returns:
            The keys and the size of the new datarange, and how its bytes got there.

        Raises:
            InvalidArgument: The range cannot be aggregated. If another can, it is in the error's metadata as
                `nearest_first` and `nearest_last`.
            NotFound: The datas3t does not exist.
            Aborted: A source was deleted or aggregated concurrently.
            ArchiveError: An entry of a source is not what the index says.
            ObjectChanged: An object in S3 is missing, or not the one that was uploaded.
            FileError: A temporary file cannot be written.
            TransferFailed: S3 cannot be reached, or refuses the transfer.
        """
        return aggregate.aggregate(
            self._session, self._name, first, last, Tuning(max_parallelism, max_retries), progress
        )

    def plan_aggregates(
        self,
        *,
        min_score: float | None = None,
        target_size: int = 0,
        max_aggregate_size: int = 0,
        max_operations: int = 0,
    ) -> list[ProposedAggregate]:
        """Return aggregates that are worth their cost, best first. Nothing is started.

        What they make may be worth merging again: `optimize` repeats this until there is nothing left.

        Example:
            >>> for proposed in photos.plan_aggregates():
            ...     photos.aggregate(proposed.first, proposed.last)

        Args:
            min_score: The lowest score that is returned; None: 1.0.
            target_size: Merge archives smaller than this, in bytes; 0: 1 GiB.
            max_aggregate_size: The largest archive to make, in bytes; 0: 5 GiB.
            max_operations: The maximum number of aggregates to return; 0 means 10.

        Raises:
            NotFound: The datas3t does not exist.
            InvalidArgument: A limit is out of range.
        """
        return optimize.plan(
            self._session.connection,
            self._name,
            min_score=min_score,
            target_size=target_size,
            max_aggregate_size=max_aggregate_size,
            max_operations=max_operations,
        )

    def optimize(
        self,
        *,
        min_score: float | None = None,
        target_size: int = 0,
        max_aggregate_size: int = 0,
        max_parallelism: int = 4,
        max_retries: int = 3,
        progress: Progress | None = None,
    ) -> Iterator[Aggregated]:
        """Merge dataranges, pass after pass, until no aggregate is worth its cost. Yields each when it is complete.

        Example:
            >>> for merged in photos.optimize():
            ...     print(merged.first, merged.last)

        Args:
            min_score: As for `plan_aggregates`.
            target_size: As for `plan_aggregates`.
            max_aggregate_size: As for `plan_aggregates`.
            max_parallelism: As for `aggregate`.
            max_retries: As for `aggregate`.
            progress: As for `aggregate`.

        Raises:
            What `plan_aggregates` and `aggregate` raise. What was yielded before is complete.
        """
        limits = {"target_size": target_size, "max_aggregate_size": max_aggregate_size}
        while proposals := self.plan_aggregates(min_score=min_score, **limits):
            for each in proposals:
                yield self.aggregate(
                    each.first,
                    each.last,
                    max_parallelism=max_parallelism,
                    max_retries=max_retries,
                    progress=progress,
                )

    def next_key(self) -> int:
        """Return the key after the greatest one, which the next archive may begin with; 1 if there is no datapoint.

        Example:
            >>> pack(["more"], "more.tar", first=photos.next_key())

        Raises:
            NotFound: The datas3t does not exist.
            InvalidArgument: The greatest key, 2^63-1, is in use.
        """
        return datas3ts.next_key(self._session.connection, self._name)

    def reserve_keys(self, count: int, request_id: str | None = None) -> Reservation:
        """Reserve consecutive keys above all that were ever used, so that many writers never choose the same ones.

        The keys belong to the reservation until all of them are datapoints, or for 30 days. Keys that are never used
        stay gaps.

        Example:
            >>> reserved = photos.reserve_keys(2450)
            >>> pack(["more"], "more.tar", first=reserved.first)
            >>> photos.upload_tar("more.tar", reservation_id=reserved.id)

        Args:
            count: How many keys.
            request_id: What to name this request by. The same one reserves the same keys again, for a program that
                may be started again. None: a new one.

        Raises:
            NotFound: The datas3t does not exist.
            AlreadyExists: `request_id` has reserved another number of keys.
            FailedPrecondition: The datas3t has fewer keys left.
        """
        return keys.reserve(self._session.connection, self._name, count, request_id)

    def list_dataranges(self) -> list[Datarange]:
        """Return all dataranges, by first key.

        Raises:
            NotFound: The datas3t does not exist.
        """
        return dataranges.list_all(self._session.connection, self._name)

    def delete_dataranges(self, first: int, last: int, *, purge_versions: bool = False) -> list[Datarange]:
        """Delete the dataranges from key `first` to key `last`, one or many, with their objects.

        Args:
            first: The first key of the first datarange.
            last: The last key of the last datarange.
            purge_versions: Whether all versions and delete markers of the objects are removed as well, in a bucket
                with versioning.

        Returns:
            The dataranges that were deleted.

        Raises:
            NotFound: The datas3t does not exist, or has no datarange with these keys.
            InvalidArgument: The range cuts through a datarange.
            Aborted: Some of them were aggregated concurrently; list the dataranges again.
        """
        return dataranges.delete(self._session.connection, self._name, first, last, purge_versions)

    def clear(self, *, purge_versions: bool = False) -> Cleared:
        """Delete all dataranges, and cancel all open uploads. Their objects are deleted in the background.

        Args:
            purge_versions: Whether all versions and delete markers of the objects are removed as well, in a bucket
                with versioning.

        Returns:
            How many dataranges were deleted, and how many objects will be.

        Raises:
            NotFound: The datas3t does not exist.
        """
        return datas3ts.clear(self._session.connection, self._name, purge_versions)

    def presign_download(self, first: int, last: int) -> list[Segment]:
        """Return presigned URLs and byte ranges of the datapoints from key `first` to key `last`.

        Any HTTP client can fetch them. Their bytes, one after the other and followed by 1,024 zero bytes, are a TAR
        archive.

        Args:
            first: The first key.
            last: The last key, inclusive. Keys that do not exist are left out.

        Returns:
            One segment for each datarange, in key order.

        Raises:
            NotFound: The datas3t does not exist, or has no datapoint with these keys.
        """
        segments, _ = dataranges.presign_download(self._session.connection, self._name, first, last)
        return segments
