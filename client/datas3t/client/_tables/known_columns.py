"""The columns of a table as a handle knows them, so that many appends do not each ask for all files."""

from collections.abc import Callable

from datas3t.client._tables.arrow import pa
from datas3t.client._tables.schemas import check_fits, united


class KnownColumns:
    """The columns of one table.

    They are read again where rows to append have other columns, or other types: another process may have added columns,
    or dropped the table.

    Args:
        read: Returns the columns that the table has now.
    """

    def __init__(self, read: Callable[[], pa.Schema]) -> None:
        self._read = read
        self._schema: pa.Schema | None = None

    @property
    def schema(self) -> pa.Schema:
        """The columns that the table had when they were read last."""
        if self._schema is None:
            self._schema = self._read()
        return self._schema

    def check(self, schema: pa.Schema) -> None:
        """Raise InvalidArgument if a column to append has another type than the table's column of that name."""
        known = self.schema
        if any(known.field(field.name).type != field.type if field.name in known.names else True for field in schema):
            self._schema = known = self._read()
        check_fits(schema, known)

    def add(self, schema: pa.Schema) -> None:
        """Note columns that were appended."""
        self._schema = united((self.schema, schema))

    def forget(self) -> None:
        """Forget the columns: the table was dropped."""
        self._schema = None
