"""What the soak run concludes from the log of its client of tables."""

import json
from pathlib import Path
from typing import Any

from tests.faults.tables import Expected


def expected(folder: Path, *log: dict[str, Any]) -> Expected:
    path = folder / "log"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in log))
    return Expected().read(path)


def begin(
    operation: str, file_id: int, first: int = 1, last: int = 9, replaces: tuple[int, ...] = ()
) -> dict[str, Any]:
    about = {"operation": operation, "table": "labels", "first": first, "last": last, "replaces": list(replaces)}
    return {"what": "begin", "id": file_id, **about}


def done(operation: str, file_id: int) -> dict[str, Any]:
    return {"what": "done", "operation": operation, "id": file_id}


def removal(what: str, operation: str, **about: Any) -> dict[str, Any]:
    return {"what": what, "operation": operation, **about}


def test_files_without_acknowledgement_may_exist_or_not(tmp_path: Path) -> None:
    found = expected(tmp_path, begin("add", 1), done("add", 1), begin("add", 2), begin("cancel", 3))
    assert (found.must, found.may) == ({1}, {2})


def test_a_replacement_has_happened_wholly_or_not_at_all(tmp_path: Path) -> None:
    added = [begin("add", 1), done("add", 1), begin("add", 2), done("add", 2)]
    found = expected(tmp_path, *added, begin("replace", 3, replaces=(1, 2)))
    assert (found.must, found.may, found.swaps) == (set(), {1, 2, 3}, {3: {1, 2}})
    found = expected(tmp_path, *added, begin("replace", 3, replaces=(1, 2)), done("replace", 3))
    assert (found.must, found.may, found.swaps) == ({3}, set(), {})


def test_a_dropped_table_has_no_files_and_a_deleted_datarange_none_within_it(tmp_path: Path) -> None:
    added = [begin("add", 1), done("add", 1), begin("add", 2), begin("together", 4, 20, 22), done("together", 4)]
    found = expected(tmp_path, *added, removal("begin", "drop", table="labels"))
    assert (found.must, found.may, found.archives) == (set(), {1, 2, 4}, {})
    found = expected(
        tmp_path, *added, removal("begin", "drop", table="labels"), removal("done", "drop", table="labels")
    )
    assert (found.must, found.may) == (set(), set())
    keys = {"first": 20, "last": 22}
    found = expected(tmp_path, *added, removal("begin", "delete", **keys), removal("done", "delete", **keys))
    assert (found.must, found.may, found.archives) == ({1}, {2}, {})


def test_an_archive_and_its_file_stand_or_fall_together(tmp_path: Path) -> None:
    found = expected(tmp_path, begin("together", 1, 5, 6))
    assert (found.may, found.archives) == ({1}, {1: (5, 6)})
