"""The newest row of each key, of files that overlap, as a dict would have it; only what is needed is fetched."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datas3t.archive.names import MAX_KEY
from datas3t.client._tables import encoding, groups, merging, reading
from datas3t.client._tables.footers import Footers
from datas3t.client.keyset import KeySet
from tests.client.tables.memory import MemoryFile, Store, file_of

Rows = dict[int, dict[str, object]]


def rows_of(
    files: list[MemoryFile],
    folder: Path,
    *,
    columns: list[str] | None = None,
    where: object = None,
    first: int = 0,
    last: int = MAX_KEY,
    present: KeySet | None = None,
    store: Store | None = None,
) -> pa.Table:
    store = store or Store()
    footers = Footers(folder, 1 << 30)
    schema = reading.schema_of(files, footers, store.fetch)
    asked = reading.question(schema, columns=columns, where=where, first=first, last=last, present=present)
    tables = list(reading.answer(files, footers, store.fetch, asked))
    return pa.concat_tables(tables) if tables else asked.columns.empty_table()


cells = st.integers(0, 3)
keys = st.integers(0, 60)


@st.composite
def files(draw: st.DrawFn) -> list[Rows]:
    """Return files of a table, the oldest first, each with the columns `n` and maybe `text`."""
    drawn: list[Rows] = []
    for _ in range(draw(st.integers(1, 6))):
        has_text = draw(st.booleans())
        row = st.fixed_dictionaries({"n": cells, **({"text": st.sampled_from("abc")} if has_text else {})})
        drawn.append(draw(st.dictionaries(keys, row, min_size=1, max_size=25)))
    return drawn


@pytest.fixture
def small_groups() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(encoding, "GROUP_ROWS", 4)
    patch.setattr(merging, "WINDOW", 200)
    patch.setattr(merging, "_MAX_REPLACING", 2)
    patch.setattr(groups, "_OPENED_AT_ONCE", 2)
    yield
    patch.undo()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=files(),
    present=st.sets(keys) | st.none(),
    span=st.tuples(keys, keys),
    wanted=cells | st.none(),
    columns=st.sampled_from([None, ["n"], ["key"], ["n", "key"]]),
)
@pytest.mark.usefixtures("small_groups")
def test_the_newest_row_of_each_key_is_what_a_dict_has(
    drawn: list[Rows],
    present: set[int] | None,
    span: tuple[int, int],
    wanted: int | None,
    columns: list[str] | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    model: Rows = {}
    made = []
    for counter, rows in enumerate(drawn, 1):
        model |= rows
        table = pa.Table.from_pylist([{"key": key, **rows[key]} for key in sorted(rows)])
        made.append(file_of(table, counter))
    first, last = min(span), max(span)
    found = rows_of(
        made,
        tmp_path_factory.mktemp("cache"),
        columns=columns,
        where=None if wanted is None else pc.field("n") == wanted,
        first=first,
        last=last,
        present=None if present is None else KeySet(present),
    ).to_pylist()

    has_text = any("text" in row for rows in drawn for row in rows.values())
    names = columns or (["key", "n", "text"] if has_text else ["key", "n"])
    expected = [
        {name: ({"key": key} | model[key]).get(name) for name in names}
        for key in sorted(model)
        if first <= key <= last and (present is None or key in present) and wanted in (None, model[key]["n"])
    ]
    assert [dict(sorted(row.items())) for row in found] == [dict(sorted(row.items())) for row in expected]
