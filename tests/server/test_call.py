"""Concurrent calls: results in order, a bounded number of calls, and an end at the first error."""

import threading

import pytest

from datas3t.server.call import MAX_PENDING, MAX_THREADS, map_concurrently, too_long


def test_results_come_in_the_order_of_the_items() -> None:
    assert list(map_concurrently(lambda n: n * n, range(1000))) == [n * n for n in range(1000)]
    assert list(map_concurrently(str, [])) == []


def test_calls_run_concurrently_up_to_the_limit() -> None:
    together, running, most, lock = threading.Barrier(MAX_THREADS), [0], [0], threading.Lock()

    def work(_: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(10)
        with lock:
            running[0] -= 1

    for _ in map_concurrently(work, range(3 * MAX_THREADS)):
        pass
    assert most[0] == MAX_THREADS


def test_no_calls_start_while_no_results_are_consumed() -> None:
    started: list[int] = []
    results = map_concurrently(started.append, iter(range(1_000_000)))
    for _ in range(3):
        next(results)
    results.close()
    assert len(started) <= MAX_PENDING + 2


def test_an_error_ends_the_iteration() -> None:
    done: list[int] = []

    def work(n: int) -> None:
        if n == 3:
            raise ValueError(n)
        done.append(n)

    with pytest.raises(ValueError, match="3"):
        list(map_concurrently(work, range(100_000)))
    assert len(done) <= MAX_PENDING + 3


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-1, "0.001"), (0.000_1, "0.001"), (0.2, "0.2"), (0.4999, "0.5"), (1.5, "1.5"), (300, "300")]
)
def test_a_short_time_limit_is_not_called_zero(seconds: float, shown: str) -> None:
    failure = too_long(seconds)
    assert failure.message.startswith(f"the call took longer than {shown} s and was ended")
    assert failure.metadata == {"seconds": shown}
