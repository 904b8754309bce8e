"""`where`: the columns that a condition needs, and the row groups of which no row can fulfil it."""

from typing import TypeAlias

import pyarrow.dataset as ds

from datas3t.client._tables.arrow import pa
from datas3t.client._tables.footers import Opened, named
from datas3t.client._tables.seal import Damaged
from datas3t.client.errors import InvalidArgument

Expression: TypeAlias = ds.Expression


def columns_of(where: Expression, schema: pa.Schema) -> frozenset[str]:
    """Return the names of the columns that a condition refers to.

    pyarrow does not tell. So each column is left out in turn: those without which the condition fails are needed.

    Raises:
        InvalidArgument: The condition cannot be applied to rows with these columns.
    """
    if not isinstance(where, (ds.Expression,)):
        raise InvalidArgument(f"where is {where!r}; it must be an expression, such as pyarrow.compute.field('n') > 3")
    empty = schema.empty_table()
    if error := _failure(where, empty):
        raise InvalidArgument(f"where does not fit the table: {error}; its columns are {', '.join(schema.names)}")
    return frozenset(name for name in schema.names if _failure(where, empty.drop_columns([name])))


def _failure(where: Expression, table: pa.Table) -> str:
    """Return why a condition cannot be applied to a table; "" if it can."""
    if not table.num_columns:  # pyarrow would refuse this for another reason
        return "" if not _refers(where) else "there are no columns"
    try:
        table.filter(where)
    except (pa.ArrowException, TypeError, ValueError, KeyError) as error:
        return " ".join(str(error).split("\n")[0].split()) or type(error).__name__
    return ""


def _refers(where: Expression) -> bool:
    return bool(_failure(where, pa.table({"": pa.nulls(0)})))


def matching_groups(opened: Opened, where: Expression, schema: pa.Schema) -> frozenset[int]:
    """Return the row groups of a file in which, by the statistics in its footer, some row may fulfil a condition."""
    raw = opened.footer.raw
    with named(opened.file):
        try:
            fragment = ds.ParquetFileFormat().make_fragment(pa.BufferReader(b"PAR1" + raw))
            return frozenset(group.id for group in fragment.subset(where, schema=schema).row_groups)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"its statistics cannot be read: {error}") from None
