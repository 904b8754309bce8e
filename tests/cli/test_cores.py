"""How many workers `auto` is: the cores that this process may use, or the quota of its container."""

import os
from pathlib import Path

import click
import pytest

from datas3t.cli import options
from datas3t.cli.options import WORKERS, cores


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("100000 100000", 1), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", None), ("", None)],
)
def test_the_quota_of_a_container_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, expected: int | None
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(options, "_QUOTA", tmp_path / "cpu.max")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert cores() == min(available, expected or available)


def test_the_option_takes_a_number_or_auto() -> None:
    assert WORKERS.convert("3", None, None) == 3
    assert WORKERS.convert("auto", None, None) == cores()
    for wrong in ("0", "-1", "1.5", "many", "1000", ""):
        with pytest.raises(click.BadParameter, match="is not a number of processes; examples: 1, 4, auto"):
            WORKERS.convert(wrong, None, None)
