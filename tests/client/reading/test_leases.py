"""Leases: when the server is asked, by how many, and what counts when answers cross."""

import os
import threading
import time
from collections.abc import Callable

import pytest

from datas3t.archive import names
from datas3t.client import Unavailable
from datas3t.client._reading import leases as _leases
from datas3t.client._reading.catalogue import Catalogue
from datas3t.client._reading.leases import Leases

EVERYTHING = (0, names.MAX_KEY)
Answer = Callable[[int, int], Catalogue]


class Asked:
    """Stands for the server: notes what it is asked, and answers as it is told."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.spans: list[tuple[int, int]] = []
        self.answer: Answer = lasting(1000, 2000)
        patch.setattr(_leases, "load", self._load)

    def leases(self) -> Leases:
        return Leases(type("Nobody", (), {"connection": None})(), "any")

    def _load(self, _: object, name: str, first: int, last: int) -> Catalogue:
        self.spans.append((first, last))
        return self.answer(first, last)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def lasting(fresh: float, alive: float) -> Answer:
    """Answers whose URLs should be renewed, and end, in so many seconds."""

    def answer(first: int, last: int) -> Catalogue:
        now = time.time()
        return Catalogue([], now + fresh, now + alive, time.monotonic(), first, last)

    return answer


def away(first: int, last: int) -> Catalogue:
    raise Unavailable("no server answers")


def test_urls_are_used_to_their_end_while_the_server_is_away(asked: Asked) -> None:
    leases = asked.leases()
    asked.answer = lasting(-1, 1000)
    held = leases.current(3, 3)
    asked.answer = away
    assert leases.current(3, 3) is held
    assert leases.current(3, 3) is held
    assert asked.spans == [(3, 3)] * 2  # and it is not asked again at once
    with pytest.raises(Unavailable):
        leases.refresh()


def test_urls_that_have_ended_are_waited_for(asked: Asked) -> None:
    leases = asked.leases()
    asked.answer = lasting(-2, -1)
    old = leases.current(3, 3)
    answers = iter([away, away, lasting(1000, 2000)])

    def in_turn(first: int, last: int) -> Catalogue:
        return next(answers)(first, last)

    asked.answer = in_turn
    assert leases.current(3, 3).asked_at > old.asked_at
    assert asked.spans == [(3, 3)] * 4


def test_many_threads_that_need_a_renewal_ask_once(asked: Asked) -> None:
    leases = asked.leases()
    asked.answer = lasting(-1, 1000)
    leases.current()
    begun = threading.Event()

    def slowly(first: int, last: int) -> Catalogue:
        begun.wait(10)
        return lasting(1000, 2000)(first, last)

    asked.answer = slowly
    threads = [threading.Thread(target=leases.current) for _ in range(16)]
    for thread in threads:
        thread.start()
    begun.set()
    for thread in threads:
        thread.join()
    assert asked.spans == [EVERYTHING] * 2


def test_an_answer_that_was_asked_for_before_a_refresh_does_not_undo_it(asked: Asked) -> None:
    leases = asked.leases()
    leases.current()
    old_asked, may_answer = threading.Event(), threading.Event()

    def late(first: int, last: int) -> Catalogue:
        made = lasting(1000, 2000)(first, last)
        old_asked.set()
        may_answer.wait(10)
        return made

    asked.answer = late
    moment = time.monotonic()
    renewal = threading.Thread(target=leases.since, args=(moment, *EVERYTHING))
    renewal.start()
    old_asked.wait(10)
    asked.answer = lasting(1000, 2000)
    refreshed = threading.Thread(target=leases.refresh)
    begun = time.monotonic()
    refreshed.start()
    may_answer.set()
    renewal.join()
    refreshed.join()
    assert leases.current().asked_at > begun
    assert len(asked.spans) == 3


def test_refusals_within_a_moment_are_answered_by_one_renewal(asked: Asked) -> None:
    leases = asked.leases()
    held = leases.current()
    moment = held.asked_at
    renewed = leases.since(moment, *EVERYTHING)
    assert renewed is not held
    assert leases.since(moment, *EVERYTHING) is renewed
    assert len(asked.spans) == 2


def test_a_child_that_was_forked_while_somebody_asked_can_ask(asked: Asked) -> None:
    leases = asked.leases()
    with leases._lock:
        child = os.fork()
        if not child:
            leases.current()
            os._exit(0 if asked.spans == [EVERYTHING] else 1)
    assert os.waitpid(child, 0)[1] == 0
