"""Calls for tables: list them, their files with presigned URLs, and what adds and removes files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from datas3t import v1
from datas3t.archive.names import MAX_KEY
from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._calls.rpc import pages, relisted
from datas3t.client.errors import NotFound


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table and its totals.

    Attributes:
        name: The name of the table.
        files: The number of its files.
        size: The size of all its files, in bytes.
        lowest: The least key that a row may have.
        highest: The greatest key that a row may have.
    """

    name: str
    files: int
    size: int
    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class SignedTableFile:
    """A file of a table with a presigned URL.

    Attributes:
        id: The server's id.
        first: The least key that a row may have.
        last: The greatest key that a row may have.
        counter: For one key, the row in the file with the greatest counter counts.
        size: The size of the file, in bytes.
        etag: Its ETag, without quotes.
        url: The presigned URL.
        lifetime: How long the URL may be used.
    """

    id: int
    first: int
    last: int
    counter: int
    size: int
    etag: str
    url: str = field(repr=False)
    lifetime: Lifetime = field(repr=False)

    @property
    def location(self) -> str:
        """The host, the bucket and the key of the object."""
        parts = urlsplit(self.url)
        return f"{parts.netloc}{unquote(parts.path)}"


@dataclass(frozen=True, slots=True)
class StartedTableFile:
    """A file that the server waits for.

    Attributes:
        id: The server's id.
        url: The URL to PUT it to.
    """

    id: int
    url: str = field(repr=False)


def list_all(connection: Connection, name: str) -> list[TableInfo]:
    """Return the tables of a datas3t; see `Datas3t.tables`."""

    def page_at(token: str) -> v1.ListTablesResponse:
        return connection.table.ListTables(v1.ListTablesRequest(datas3t_name=name, page_token=token))

    listing = relisted(lambda: list(pages(page_at)))
    return [
        TableInfo(each.table, each.file_count, each.total_bytes, each.lowest_key, each.highest_key)
        for page in listing
        for each in page.tables
    ]


def presign(
    connection: Connection, name: str, table: str, first: int = 0, last: int = MAX_KEY
) -> list[SignedTableFile]:
    """Return the files that may have rows of keys from `first` to `last`, each once.

    Raises:
        NotFound: There is no such datas3t, or no such table.
    """
    check_text(table=table)

    def page_at(token: str) -> v1.PresignTableResponse:
        request = v1.PresignTableRequest(datas3t_name=name, table=table, first=first, last=last, page_token=token)
        return connection.table.PresignTable(request)

    files: dict[int, SignedTableFile] = {}
    for page in relisted(lambda: list(pages(page_at))):
        lifetime = Lifetime.until(page.expires_at)
        for each in page.files:
            files[each.table_file_id] = SignedTableFile(
                id=each.table_file_id,
                first=each.first_key,
                last=each.last_key,
                counter=each.counter,
                size=each.size_bytes,
                etag=each.etag,
                url=each.presigned_url,
                lifetime=lifetime,
            )
    return list(files.values())


def start(
    connection: Connection, name: str, table: str, first: int, last: int, size: int, replaces: Sequence[int] = ()
) -> StartedTableFile:
    """Have the server open a file of a table.

    Raises:
        Aborted: With `replaces`: a newer file has keys in common with it.
    """
    check_text(table=table)
    response = connection.table.StartTableFile(
        v1.StartTableFileRequest(
            datas3t_name=name, table=table, first_key=first, last_key=last, size=size, replaces=replaces
        )
    )
    return StartedTableFile(response.table_file_id, response.presigned_put_url)


def complete(connection: Connection, file_id: int) -> None:
    """Have the server check a file that was sent, and make it a part of its table."""
    connection.table.CompleteTableFile(v1.CompleteTableFileRequest(table_file_id=file_id))


def cancel(connection: Connection, file_id: int) -> None:
    """Have the server remove a file that is not complete."""
    connection.table.CancelTableFile(v1.CancelTableFileRequest(table_file_id=file_id))


def drop(connection: Connection, name: str, table: str) -> int:
    """Remove a table and return how many files it had.

    Raises:
        NotFound: There is no such datas3t, or no such table.
    """
    check_text(table=table)
    response = connection.table.DropTable(v1.DropTableRequest(datas3t_name=name, table=table))
    return response.files_deleted


def is_no_table(error: NotFound) -> bool:
    """Return whether the error says that the table does not exist, though the datas3t does."""
    return error.reason == "TABLE_NOT_FOUND"
