"""A server in its own process with clocks around its work, to measure where the time of a call goes."""

import atexit
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from botocore.client import BaseClient

from bench.contestant import Turn
from datas3t.server.app.server import Server
from datas3t.server.db import pool
from datas3t.server.front.rpc import interceptor
from datas3t.server.s3 import bucket
from datas3t.server.s3.presign import GetSigner
from datas3t.server.settings import Address, Settings
from datas3t.server.telemetry import logs

CALL, SQL, S3, SIGNING = "call", "SQL", "S3", "signing"


class Served:
    """A server that listens until its process ends. Time with a database connection counts as SQL."""

    def __init__(self, db_url: str, encryption_key: str, folder: Path, port: int) -> None:
        self._spent: dict[str, list[float]] = defaultdict(list)
        self._time_blocks(interceptor, "observed", CALL)
        self._time_blocks(pool, "connection", SQL)
        self._time_blocks(pool, "transaction", SQL)
        self._time(BaseClient, "_make_api_call", S3, time.perf_counter)
        self._time(bucket, "presign", SIGNING, time.thread_time)
        self._time(GetSigner, "url", SIGNING, time.thread_time)
        self._time(GetSigner, "signature", SIGNING, time.thread_time)
        logs.configure("warning")
        server = Server(Settings(db_url, encryption_key, folder, Address("127.0.0.1", port)))
        server.start()
        atexit.register(server.stop)

    def spent(self, turn: Turn) -> None:
        """Report for each clock the seconds and the number of measurements since the last report."""
        turn.spent = {name: (sum(times), len(times)) for name, times in self._spent.items()}
        for times in self._spent.values():
            times.clear()

    def _time(self, owner: Any, name: str, kind: str, clock: Callable[[], float]) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = clock()
            try:
                return function(*args, **kwargs)
            finally:
                self._spent[kind].append(clock() - began)

        setattr(owner, name, timed)

    def _time_blocks(self, owner: Any, name: str, kind: str) -> None:
        function: Callable[..., AbstractContextManager[Any]] = getattr(owner, name)

        @contextmanager
        def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            began = time.perf_counter()
            try:
                with function(*args, **kwargs) as value:
                    yield value
            finally:
                self._spent[kind].append(time.perf_counter() - began)

        setattr(owner, name, timed)
