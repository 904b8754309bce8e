"""Shards of WebDataset: the part of `Client` that imports them."""

import os
from collections.abc import Iterable

from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.session import Session
from datas3t.client._files.results import ImportedShards
from datas3t.client._transfers.task import Tuning
from datas3t.client.errors import InvalidArgument
from datas3t.client.progress import Progress

SHARD_SIZE = 1 << 30  # bytes of the archives that are made of the samples of a shard


class Shards:
    """The part of `Client` that imports shards of WebDataset."""

    _session: Session

    def import_webdataset(
        self,
        name: str,
        shards: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        fields: Iterable[str] | None = None,
        nest: bool = False,
        bucket: str | None = None,
        archive_size: int = SHARD_SIZE,
        max_parallelism: int = 4,
        max_retries: int = 3,
        progress: Progress | None = None,
    ) -> ImportedShards:
        """Import shards that WebDataset, img2dataset or others wrote.

        Samples are numbered in the order of the shards. Each field becomes a datas3t `<name>--<field>`, in which
        characters that no name has are "_", such as `train--seg_png`; a sample has the same key in all of them. What a
        sample lacks is an empty datapoint with the extension "missing", or, if no sample near it has the field, no
        datapoint. Names are kept in the tables `files`, so that `find` finds a sample by `<__key__>.<field>`. Datas3ts
        that do not exist are added. Keys that are used, or were, are not used again.

        What is no file of a sample is left out, as WebDataset does it: entries that are no regular files, names without
        extension, and names that begin with `__` and tell about the shard. Where WebDataset refuses a field that comes
        twice in a row for one `__key__`, the second begins a new sample.

        If the call is interrupted or fails, the same call resumes it; shards that were imported are not imported again,
        also when more shards are named. A part of each shard is on disk meanwhile, in the user's state folder: up to
        four times `archive_size`. Memory does not depend on the sizes.

        Args:
            name: The name that the datas3ts begin with.
            shards: The shards: files, http(s) URLs, "-" for standard input (which cannot be resumed), or patterns such
                as "train-{000..145}.tar" for several. They may be compressed with gzip, bzip2, xz or zstd.
            fields: The fields to import, such as ["jpg", "json"], in lower case; None: all.
            nest: Whether each sample becomes one datapoint in the datas3t `name` instead: a TAR archive of its files.
            bucket: The bucket configuration of datas3ts that are added. None: that of `name` or of its fields, or the
                only one that there is.
            archive_size: The size from which the samples of a shard go on in other archives, in bytes.
            max_parallelism: How many requests are sent at a time for each of two archives.
            max_retries: How often each request is retried.
            progress: Is called with the phases "import", in bytes of the shards, and "files", in samples that are
                committed. Their totals grow while shards are read.

        Returns:
            What was imported, and the datas3ts of the fields.

        Raises:
            FilesFailed: Shards are damaged or cannot be read. All others were imported; what was read of a damaged one
                before may be, too.
            InvalidArgument: An option or a name is not allowed, two fields would have the same datas3t, or there are
                more than 64 fields.
            FailedPrecondition: The same import is running in another process.
            PackageMissing: pyarrow is not installed.
            FileError: The disk is full.
            TransferFailed: S3 cannot be reached.

        Example:
            >>> client.import_webdataset("train", "shards/train-{000..145}.tar", fields=["jpg", "json"]).datas3ts
            {'jpg': 'train--jpg', 'json': 'train--json'}
        """
        from datas3t.client._files._shards import importing, streams  # noqa: PLC0415 - need pyarrow

        check_text(name=name, bucket=bucket)
        sources = [shards] if isinstance(shards, (str, os.PathLike)) else list(shards)
        if not sources:
            raise InvalidArgument("there is nothing to import; name a shard")
        options = importing.Options(
            None if fields is None else frozenset(field.lower().lstrip(".") for field in fields),
            nest,
            bucket,
            archive_size,
            Tuning(max_parallelism, max_retries),
        )
        found = (shard for source in sources for shard in streams.named(source))
        return importing.import_shards(self._session, name, found, options, progress)
