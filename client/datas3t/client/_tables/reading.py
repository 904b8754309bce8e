"""Rows of a table: which files and columns to read for a question, and the answer in batches."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from datas3t.client._tables import columns, conditions, schemas
from datas3t.client._tables.arrow import pa
from datas3t.client._tables.columns import Wanted
from datas3t.client._tables.conditions import Expression
from datas3t.client._tables.footers import Fetch, Footers, TableFile
from datas3t.client._tables.groups import Group, Question, groups
from datas3t.client._tables.merging import merged
from datas3t.client._tables.schemas import KEY
from datas3t.client.errors import InvalidArgument
from datas3t.client.keyset import KeySet


def schema_of(
    files: Sequence[TableFile],
    footers: Footers,
    fetch: Fetch,
    names: Iterable[str] | None = None,
    *,
    strict: bool = True,
) -> pa.Schema:
    """Return the columns of a table's files, united by name.

    Args:
        files: The files.
        footers: Their footers.
        fetch: Fetches what is not known of them.
        names: The columns to return with the key; None for all.
        strict: Whether a column may have only one type.

    Raises:
        TableError: A column has different types in different files, or a file is damaged.
    """
    wanted = None if names is None else {KEY, *names}
    origins: list[str] = []

    def of_each() -> Iterator[pa.Schema]:
        for opened in footers.opened(files, fetch):
            origins.append(opened.file.location)
            yield pa.schema([field for field in opened.schema if wanted is None or field.name in wanted])

    return schemas.united(of_each(), _growing(origins), strict=strict)


def _growing(names: list[str]) -> Iterator[str]:
    """Yield the last one of names to which one is added before each step."""
    while True:
        yield names[-1]


def schema_for(
    files: Sequence[TableFile],
    footers: Footers,
    fetch: Fetch,
    columns: Sequence[str] | None,
    where: Expression | None,
) -> pa.Schema:
    """Return the columns that are wanted, and those that a condition refers to: others may have different types.

    Raises:
        TableError: A column has different types in different files, or a file is damaged.
        InvalidArgument: The condition does not fit.
    """
    names: set[str] | None = None
    if columns is not None:
        names = set(columns)
        if where is not None:
            names |= conditions.columns_of(where, schema_of(files, footers, fetch, strict=False))
    whole = schema_of(files, footers, fetch, names)
    if names is None or names <= set(whole.names):
        return whole
    return schema_of(files, footers, fetch, strict=False)  # the error names all columns


def question(
    whole: pa.Schema,
    *,
    columns: Sequence[str] | None,
    where: Expression | None,
    first: int,
    last: int,
    present: KeySet | None,
) -> Question:
    """Return what to read of a table with these columns.

    Raises:
        InvalidArgument: There is no column of that name, or the condition does not fit.
    """
    names = whole.names if columns is None else list(columns)
    if unknown := [name for name in names if name not in whole.names]:
        raise InvalidArgument(f"the table has no column {unknown[0]!r}; its columns are {', '.join(whole.names)}")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InvalidArgument(f"the column {repeated[0]!r} is named twice; name each once")
    of_where = conditions.columns_of(where, whole) if where is not None else frozenset[str]()
    needed = pa.schema([field for field in whole if field.name in {KEY, *names, *of_where}])
    return Question(first, last, pa.schema([whole.field(name) for name in names]), where, needed, present)


def answer(files: Sequence[TableFile], footers: Footers, fetch: Fetch, asked: Question) -> Iterator[pa.Table]:
    """Yield the rows of an answer in key order, the newest of each key.

    Raises:
        TableError: A file is damaged.
    """
    wanted = frozenset(asked.needed.names)

    def names_of(group: Group) -> frozenset[str]:
        return wanted & frozenset(group.opened.schema.names) if group.matches else frozenset((KEY,))

    def load(together: Sequence[Group]) -> list[pa.Table]:
        return columns.read([Wanted(each.opened, each.number, names_of(each)) for each in together], fetch)

    def size_of(group: Group) -> int:
        return columns.size_of(group.opened, group.number, names_of(group))

    for table in merged(groups(files, footers, fetch, asked), asked.needed, load, size_of):
        shown = _shown(table, asked)
        if asked.where is not None:
            shown = shown.filter(asked.where)
        if len(shown):
            yield shown.select(asked.columns.names)


def _shown(table: pa.Table, asked: Question) -> pa.Table:
    """Return the rows whose keys are asked for and present."""
    keys = table.column(KEY).to_numpy()
    mask = (keys >= asked.first) & (keys <= asked.last)
    if asked.present is not None:
        mask &= asked.present.mask(keys)
    return table if mask.all() else table.filter(pa.array(mask))
