"""Calls at once: in order, bounded, and over at the first error."""

import threading

import pytest

from datas3t.server.parallel import AT_ONCE, HELD, at_once


def test_results_come_in_the_order_of_the_items() -> None:
    assert list(at_once(lambda n: n * n, range(1000))) == [n * n for n in range(1000)]
    assert list(at_once(str, [])) == []


def test_many_run_at_a_time_and_no_more() -> None:
    together, running, most, lock = threading.Barrier(AT_ONCE), [0], [0], threading.Lock()

    def work(_: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(10)
        with lock:
            running[0] -= 1

    for _ in at_once(work, range(3 * AT_ONCE)):
        pass
    assert most[0] == AT_ONCE


def test_whoever_takes_nothing_more_has_nothing_more_asked_for() -> None:
    asked: list[int] = []
    results = at_once(asked.append, iter(range(1_000_000)))
    for _ in range(3):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(asked) <= HELD + 2


def test_an_error_ends_it() -> None:
    done: list[int] = []

    def work(n: int) -> None:
        if n == 3:
            raise ValueError(n)
        done.append(n)

    with pytest.raises(ValueError, match="3"):
        list(at_once(work, range(100_000)))
    assert len(done) <= HELD + 3
