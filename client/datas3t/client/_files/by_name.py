"""Operations on files by name, as methods of the client, which take the name of the datas3t."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from datas3t.client._files.operations import FileOperations
from datas3t.client._files.results import ARCHIVE_SIZE, Pulled, Pushed
from datas3t.client.progress import Progress

if TYPE_CHECKING:
    from datas3t.client._files.writer import Writer


class FilesByName(ABC):
    """The part of `Client` that handles files by name."""

    @abstractmethod
    def datas3t(self, name: str) -> FileOperations:
        """Return a handle of a datas3t."""

    def push(
        self,
        name: str,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        *,
        prefix: str = "",
        files_from: str | os.PathLike[str] | None = None,
        archive_size: int = ARCHIVE_SIZE,
        max_parallelism: int = 8,
        max_retries: int = 3,
        follow_links: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Pushed:
        """Put files and folders into a datas3t; see `Datas3t.push`."""
        return self.datas3t(name).push(
            sources,
            prefix=prefix,
            files_from=files_from,
            archive_size=archive_size,
            max_parallelism=max_parallelism,
            max_retries=max_retries,
            follow_links=follow_links,
            dry_run=dry_run,
            progress=progress,
        )

    def pull(
        self,
        name: str,
        output: str | os.PathLike[str],
        *,
        first: int | None = None,
        last: int | None = None,
        match: str | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Pulled:
        """Write datapoints as files, under the paths that they were pushed with; see `Datas3t.pull`."""
        return self.datas3t(name).pull(
            output, first=first, last=last, match=match, overwrite=overwrite, progress=progress
        )

    def writer(
        self,
        name: str,
        *,
        archive_size: int = ARCHIVE_SIZE,
        writer_id: str | None = None,
        table: str | None = None,
        max_parallelism: int = 4,
        max_retries: int = 3,
    ) -> "Writer":
        """Open a writer, which appends datapoints one by one; see `Datas3t.writer`."""
        return self.datas3t(name).writer(
            archive_size=archive_size,
            writer_id=writer_id,
            table=table,
            max_parallelism=max_parallelism,
            max_retries=max_retries,
        )
