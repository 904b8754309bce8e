"""Which functions compute while the database holds a transaction open for them, as the database itself says."""

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import psycopg

# A connection that waits for its client with a transaction open, or that holds a lock of its session. What a statement
# holds that runs at the same time, in another thread, does not count.
_HELD = """
    SELECT count(*) FROM pg_stat_activity AS a
     WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
       AND (a.state LIKE 'idle in transaction%'
            OR EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'advisory'))
"""
_MOST_QUESTIONS = 3  # for each function: it is asked often


class Watched:
    """What was seen: the functions that ran, and those that ran while a transaction or a lock was held."""

    def __init__(self) -> None:
        self.functions: set[str] = set()
        self.inside: set[str] = set()


@contextmanager
def watching(url: str, *modules: str) -> Iterator[Watched]:
    """Ask the database about open transactions whenever a function of the modules, or below them, is called.

    This holds for the thread of the test and for those that are started in the block.
    """
    watched, asked = Watched(), Counter[CodeType]()
    lock = threading.Lock()
    with psycopg.connect(url, autocommit=True) as conn:

        def note(frame: FrameType, event: str, _argument: Any) -> None:
            module, code = str(frame.f_globals.get("__name__")), frame.f_code
            if event != "call" or not any(f"{module}.".startswith(f"{each}.") for each in modules):
                return
            with lock:
                asked[code] += 1
                if asked[code] <= _MOST_QUESTIONS:
                    name = f"{module}.{code.co_qualname}"
                    watched.functions.add(name)
                    if conn.execute(_HELD).fetchone() != (0,):
                        watched.inside.add(name)

        threading.setprofile(note)
        sys.setprofile(note)
        try:
            yield watched
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
