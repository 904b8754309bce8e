"""The columns of tables: the key, the fixed schema of the table `files`, and how the columns of several files unite."""

from collections.abc import Iterable

from datas3t.client._tables.arrow import pa, pc
from datas3t.client.errors import InvalidArgument, TableError

KEY = "key"
PATH = "path"
FILES = "files"  # the name of the table that says which datapoint was which file
KEY_FIELD = pa.field(KEY, pa.int64())
FILES_SCHEMA = pa.schema(
    [
        KEY_FIELD,
        pa.field(PATH, pa.string()),
        pa.field("size", pa.int64()),
        pa.field("mtime", pa.timestamp("ns", tz="UTC")),
        pa.field("crc32c", pa.uint32()),
    ]
)


def united(schemas: Iterable[pa.Schema], names: Iterable[str] | None = None, *, strict: bool = True) -> pa.Schema:
    """Return the columns of all schemas, by name, the key first. The type `null` gives way to any other.

    Args:
        schemas: The schemas.
        names: What the schemas are of, for the message.
        strict: Whether a column may have only one type; otherwise it has the first one.

    Raises:
        TableError: A column has different types; the message names it.
    """
    fields: dict[str, pa.Field] = {KEY: KEY_FIELD}
    origins: dict[str, str] = {}
    of_each = iter(names) if names is not None else None
    for schema in schemas:
        origin = next(of_each) if of_each is not None else ""
        for field in schema:
            known = fields.get(field.name)
            if known is None or pa.types.is_null(known.type):
                fields[field.name] = pa.field(field.name, field.type)
                origins[field.name] = origin
            elif strict and known.type != field.type and not pa.types.is_null(field.type):
                where = f": {origins.get(field.name, '')} and {origin}" if origin else ""
                raise TableError(
                    f"column {field.name!r} has the types {known.type} and {field.type} in different files{where}; "
                    "drop the table, or read other columns"
                )
    return pa.schema(fields.values())


def check_fits(schema: pa.Schema, known: pa.Schema) -> None:
    """Raise InvalidArgument if a column to append has another type than the table's column of that name."""
    for field in schema:
        at = known.get_field_index(field.name)
        if at >= 0 and known.field(at).type != field.type and not _is_null(field.type, known.field(at).type):
            raise InvalidArgument(
                f"column {field.name!r} is {field.type}, and the table's is {known.field(at).type}; convert it"
            )


def _is_null(*types: pa.DataType) -> bool:
    return any(map(pa.types.is_null, types))


def normalised(table: pa.Table) -> pa.Table:
    """Return the table with the plain types of what is the same as text, bytes or values, and without metadata.

    Different libraries store the same text as `string`, `large_string`, `string_view` or a dictionary.
    """
    columns = [_plain(column) for column in table.columns]
    fields = [pa.field(name, each.type) for name, each in zip(table.column_names, columns, strict=True)]
    return pa.table(columns, schema=pa.schema(fields))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        kind = column.type
    if pa.types.is_dictionary(kind):
        column = pc.cast(column, kind.value_type)
        kind = column.type
    wanted = plain_type(kind)
    return column if wanted == kind else column.cast(wanted)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type as which values of this type are stored."""
    if kind == pa.large_string() or str(kind) == "string_view":
        return pa.string()
    if kind == pa.large_binary() or str(kind) == "binary_view":
        return pa.binary()
    return kind


def with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with exactly these columns; those that it does not have are null."""
    columns = []
    for field in schema:
        at = table.schema.get_field_index(field.name)
        if at < 0:
            columns.append(pa.nulls(len(table), field.type))
        else:
            column = table.column(at)
            columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.table(columns, schema=schema)
