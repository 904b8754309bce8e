"""Fuzzing of exceptions at any line of the engine: it raises or returns the right bytes, and the next call works."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

from datas3t.transport import Engine, get, policy
from tests.fuzz.loop import Note, Try, replaced
from tests.support.httpd import httpd
from tests.support.interrupts import Injector, Interrupted, Place, places
from tests.transport.test_interrupts import CONTENT, ENGINE, EXPECTED, Operation


@contextmanager
def target() -> Iterator[Try]:
    """Yield the target: an exception at a random line, in one of its executions."""
    known: dict[Operation, list[Place]] = {}
    with httpd({"/a": CONTENT}) as server, replaced((policy, "_FIRST_PAUSE", 0.001), (get, "_BATCH", 10_000)):

        def attempt(source: random.Random, note: Note) -> None:
            operation = source.choice(list(EXPECTED))
            if operation not in known:
                with Engine() as fresh:
                    known[operation] = list(places(ENGINE, lambda: operation(fresh, server), more=True))
                server.plan_nothing()
            place = source.choice(known[operation])
            note((operation.__name__, place))
            with Engine() as engine:
                try:
                    with Injector(ENGINE, place):
                        assert operation(engine, server) == EXPECTED[operation], "wrong bytes"
                except Interrupted:
                    pass
                server.plan_nothing()
                assert operation(engine, server) == EXPECTED[operation], "wrong bytes in the next call"
                server.plan_nothing()

        yield attempt
