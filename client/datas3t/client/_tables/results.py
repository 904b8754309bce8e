"""What was done to tables. Nothing here needs pyarrow."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Appended:
    """Rows that were appended.

    Attributes:
        rows: How many.
        files: How many files hold them.
    """

    rows: int
    files: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """Files of a table that became one.

    Attributes:
        table: The name of the table.
        first: The first key.
        last: The last key.
        files: How many files there were.
        size: The size of the one that replaced them, in bytes.
    """

    table: str
    first: int
    last: int
    files: int
    size: int
