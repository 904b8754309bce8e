"""Operations on files by name: the part of the handle that pushes folders and pulls them."""

import os
from collections.abc import Iterable
from operator import index as integer
from typing import TYPE_CHECKING

from datas3t.archive.names import MAX_KEY
from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.dataranges import check_range
from datas3t.client._calls.session import Session
from datas3t.client._files.results import ARCHIVE_SIZE, Pulled, Pushed
from datas3t.client._transfers.task import Tuning
from datas3t.client.progress import Progress

if TYPE_CHECKING:
    from datas3t.client._files.writer import Writer


class FileOperations:
    """The part of the handle `Datas3t` that handles files by name."""

    _session: Session
    _name: str

    def push(
        self,
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
        """Put files and folders into the datas3t, packed on the way: nothing is written to disk but a journal.

        Each file becomes a datapoint, with its path in the table `files`: `find` finds it again by that path. The path
        is relative to the folder that is named; of a file that is named, it is its name. Only files that are new, or
        have another size or time of modification than the datapoint of their path, are sent. A changed file becomes a
        new datapoint, and its path then means the new one.

        If the call is interrupted or fails, the same call resumes it: what was committed stays, and parts that S3 has
        are not sent again. Memory: up to 250 bytes for each file, and 64 MB.

        Hidden files are taken. Links to files are followed, links to folders only if `follow_links` is set. Devices,
        pipes and sockets are left out; the result names them.

        Example:
            >>> photos = client.datas3t("photos")
            >>> photos.push("holiday", prefix="2026")
            Pushed(files=2450, size=104210432, archives=1, unchanged=0, left_out=0, failed=0, notes=(), failures=())
            >>> photos.find("2026/beach/1.jpg")
            17

        Args:
            sources: The files and folders. With more than one, all are listed before anything is sent.
            prefix: The folder that all paths begin with.
            files_from: A file with a list of files and folders to push, one on a line, or with NUL between them as
                `find -print0` writes it; "-" is standard input. `sources` is then the one folder that they are relative
                to, by default the working folder.
            archive_size: The size of the archives that the files are packed into, in bytes. A larger file has one of
                its own.
            max_parallelism: How many requests are sent at a time.
            max_retries: How often each request is retried.
            follow_links: Whether links to folders are followed.
            dry_run: Whether only to find out what would be pushed.
            progress: Is called with the phases "push", in bytes, and "files". Their totals grow while files are found.

        Returns:
            What was pushed, what was there already, and what was left out.

        Raises:
            FilesFailed: Files changed or vanished while they were read, or cannot be read. All others were pushed,
                except those in the same archive as one that changed; the next push sends them.
            InvalidArgument: Two files have the same path, or there is nothing to push.
            FileError: What was named does not exist.
            NotFound: The datas3t does not exist.
            FailedPrecondition: The same push is running in another process.
            PackageMissing: pyarrow is not installed.
            TransferFailed: S3 cannot be reached, or refuses the transfer.
        """
        from datas3t.client._files import push  # noqa: PLC0415 - numpy and pyarrow take long to import

        named = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
        settings = push.options(prefix, archive_size, follow_links, Tuning(max_parallelism, max_retries))
        found = push.found_sources(named, files_from)
        return push.push(self._session, self._name, found, settings, dry_run=dry_run, progress=progress)

    def pull(
        self,
        output: str | os.PathLike[str],
        *,
        first: int | None = None,
        last: int | None = None,
        match: str | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Pulled:
        """Write datapoints as files, under the paths that they were pushed with.

        Of several datapoints with one path, the newest is written. A datapoint without a path gets the name of its
        entry, such as `00000000000000000042.jpg`. Times of modification are set, and checksums are verified.

        Nothing is written outside of the output, whatever the paths are: links are not followed, and a path that is
        absolute or has a part `..` is refused. Each file appears whole or not at all. A file that is there with the
        same size and checksum is not fetched, so the same call resumes one that was interrupted.

        Example:
            >>> photos.pull("photos", match="2026/**/*.jpg")
            Pulled(files=2450, size=104210432, unchanged=0, failed=0, failures=())

        Args:
            output: The folder to write to. It is created if it does not exist.
            first: The first key; all from the lowest on if it is None.
            last: The last key, included; all up to the highest if it is None.
            match: Which files to write: a pattern for the whole path, as `glob` takes it.
            overwrite: Whether files are replaced that have another size or checksum.
            progress: Is called with the phases "pull", in bytes, and "files".

        Returns:
            What was written, and what was there already.

        Raises:
            FilesFailed: Files were refused, exist with other contents, or could not be fetched. All others were
                written.
            InvalidArgument: `first` to `last` is not a range of keys, or the pattern is not valid.
            NotFound: The datas3t does not exist.
            FileError: The output cannot be written.
            PackageMissing: pyarrow is not installed.
            TransferFailed: S3 cannot be reached.
        """
        from datas3t.client._files import pull  # noqa: PLC0415 - as above

        keys = 0 if first is None else integer(first), MAX_KEY if last is None else integer(last)
        check_range(*keys)
        return pull.pull(
            self._session,
            self._name,
            output,
            first=keys[0],
            last=keys[1],
            match=match,
            overwrite=overwrite,
            progress=progress,
        )

    def writer(
        self,
        *,
        archive_size: int = ARCHIVE_SIZE,
        writer_id: str | None = None,
        table: str | None = None,
        max_parallelism: int = 4,
        max_retries: int = 3,
    ) -> "Writer":
        """Open a writer, which appends datapoints one by one, and uploads them in archives.

        What is appended is first kept on disk, in the user's state folder, up to three archives of it. A full archive
        is uploaded while more is appended, by a thread of the writer. Any number of writers may append to one datas3t:
        the server gives each of them keys of its own.

        If the process is killed, or an exception ends the `with` block, what was appended stays on disk: the next
        writer with the same id on this machine, for the same server address, uploads it. Nothing that `append` has
        returned is lost or committed twice. A writer without an id gets one that is made up. If it ends with something
        on disk, the next writer without id warns of that (RuntimeWarning), and names the id that uploads it.

        Example:
            >>> with client.datas3t("photos").writer(writer_id="crawler-1", table="labels") as out:
            ...     key = out.append(content, extension="jpg", path="cats/1.jpg", label="cat")
            ...     out.flush()

        Args:
            archive_size: The size of the archives, in bytes. A larger datapoint has one of its own.
            writer_id: What identifies the writer on this machine: 1 to 100 letters, digits, "_", "-" and ".". A writer
                that is used again goes on with the keys that it has left, so that its archives can be aggregated.
            table: The table that columns go to.
            max_parallelism: How many requests are sent at a time.
            max_retries: How often each request is retried.

        Returns:
            The writer, to be used in a `with` block, or closed by `close`.

        Raises:
            FailedPrecondition: A writer with this id is alive.
            InvalidArgument: The id or the name of the table is not allowed, or `archive_size` is below 1 KiB.
            FileError: The state folder cannot be used.
        """
        from datas3t.client._files.writer import Writer  # noqa: PLC0415 - as for push

        check_text(writer_id=writer_id, table=table)
        return Writer(
            self._session,
            self._name,
            archive_size=archive_size,
            writer_id=writer_id,
            table=table,
            tuning=Tuning(max_parallelism, max_retries),
        )
