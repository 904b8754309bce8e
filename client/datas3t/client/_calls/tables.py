"""Calls for tables: start, complete and cancel a file, list tables, presign a table's files, and drop a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from datas3t import v1
from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._calls.rpc import pages, relisted

MAX_SIZE = 5 << 30  # bytes of a file: S3's limit of one PUT


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table and a summary of its files.

    Attributes:
        name: The table's name.
        files: How many files it has.
        size: The size of all files, in bytes.
        lowest: The least key that a row may have.
        highest: The greatest key that a row may have.
    """

    name: str
    files: int
    size: int
    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class StartedFile:
    """A file that is to be sent to `url`, by one PUT, and then completed.

    Attributes:
        id: The server's id.
        object_key: The object key that it will have.
        counter: Of several rows of one key, that in the file with the greatest counter counts.
        url: The presigned URL of the PUT.
        lifetime: How long the URL works; the file is cancelled when it ends.
    """

    id: int
    object_key: str
    counter: int
    url: str = field(repr=False)
    lifetime: Lifetime


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A file of a table, with a URL that serves any range of it.

    Attributes:
        id: The server's id.
        first: The least key that a row may have.
        last: The greatest key that a row may have.
        counter: Of several rows of one key, that in the file with the greatest counter counts.
        size: The size of the file, in bytes.
        etag: Its ETag, without quotes.
        url: The presigned URL.
    """

    id: int
    first: int
    last: int
    counter: int
    size: int
    etag: str
    url: str = field(repr=False)


def start(
    connection: Connection, name: str, table: str, first: int, last: int, size: int, *, replaces: Sequence[int] = ()
) -> StartedFile:
    """Start a file of `size` bytes with rows of the keys from `first` to `last`.

    It takes the place of the files with the ids `replaces` when it completes.

    Raises:
        NotFound: The datas3t does not exist.
        InvalidArgument: A value is not allowed, or a file that is to be replaced has other keys.
        Aborted: A file that is to be replaced is gone, or another one is newer and has keys in common.
    """
    check_text(table=table)
    response = connection.table.StartTableFile(
        v1.StartTableFileRequest(
            datas3t_name=name, table=table, first_key=first, last_key=last, size=size, replaces=replaces
        )
    )
    return StartedFile(
        response.table_file_id,
        response.object_key,
        response.counter,
        response.presigned_put_url,
        Lifetime.until(response.expires_at),
    )


def complete(connection: Connection, file_id: int) -> None:
    """Have the server check a file that was sent, and add it to its table.

    Raises:
        InvalidArgument: It is not what was announced. Start again.
        Aborted: It may not replace what it was to replace any more. Start again.
        FailedPrecondition: It was cancelled, or its URL has expired.
    """
    connection.table.CompleteTableFile(v1.CompleteTableFileRequest(table_file_id=file_id))


def cancel(connection: Connection, file_id: int) -> None:
    """End a file that is not complete; the server deletes what was sent."""
    connection.table.CancelTableFile(v1.CancelTableFileRequest(table_file_id=file_id))


def list_all(connection: Connection, name: str) -> list[TableInfo]:
    """Return the tables of a datas3t, by name."""

    def page_at(token: str) -> v1.ListTablesResponse:
        return connection.table.ListTables(v1.ListTablesRequest(datas3t_name=name, page_token=token))

    return [
        TableInfo(each.table, each.file_count, each.total_bytes, each.lowest_key, each.highest_key)
        for page in pages(page_at)
        for each in page.tables
    ]


def presign(
    connection: Connection, name: str, table: str, first: int | None = None, last: int | None = None
) -> tuple[list[SignedFile], Lifetime]:
    """Return the files of a table that may have rows of the keys from `first` to `last`, by counter.

    Also returns how long their URLs work. Without `first` or `last` the span begins or ends with the other keys.

    Raises:
        NotFound: The datas3t or the table does not exist.
    """
    check_text(table=table)

    def page_at(token: str) -> v1.PresignTableResponse:
        return connection.table.PresignTable(
            v1.PresignTableRequest(datas3t_name=name, table=table, first=first, last=last, page_token=token)
        )

    listing = relisted(lambda: list(pages(page_at)))
    # A file that is replaced between two pages is listed, and so is the one in its place: that has the greater counter.
    files = [_signed(message) for page in listing for message in page.files]
    return files, Lifetime.until(*(page.expires_at for page in listing))


def drop(connection: Connection, name: str, table: str) -> int:
    """Delete a table, and return how many files it had; 0 also if an earlier attempt of this call has deleted it.

    Raises:
        NotFound: The datas3t or the table does not exist.
    """
    check_text(table=table)
    return connection.table.DropTable(v1.DropTableRequest(datas3t_name=name, table=table)).files_deleted


def _signed(message: v1.PresignedTableFile) -> SignedFile:
    return SignedFile(
        message.table_file_id,
        message.first_key,
        message.last_key,
        message.counter,
        message.size_bytes,
        message.etag,
        message.presigned_url,
    )
