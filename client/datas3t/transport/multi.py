"""A libcurl multi: transfers that run at the same time, and the connections that they leave for the next ones."""

import os
import time
from collections.abc import Callable, Iterable, Sequence

import pycurl

from datas3t.transport.get import Get
from datas3t.transport.handle import Options, Transfer, new_handle
from datas3t.transport.messages import Range, Request
from datas3t.transport.put import Put
from datas3t.transport.sweep import Sweeper

_KINDS: dict[str, type[Transfer]] = {"GET": Get, "PUT": Put}
TICK = 0.25  # seconds; a signal that another thread got is noticed within it
_SILENCE = 2.0  # seconds without an answer, at least, until a small request is rather sent again
_SLOWER = 4  # and so many times as long as the slowest of those that were answered
_KEPT = 8  # connections that a multi may keep, at least: there may be several endpoints
_BLIND_WAIT = 0.002  # seconds, where libcurl cannot wait by itself: descriptors of 1,024 and more

Take = Callable[[int, bytes], None]  # is given the number of a request, and its body
Ended = tuple[Transfer, int, str]  # with libcurl's code and message


class Multi:
    """Belongs to one thread at a time, and to the process that made it."""

    def __init__(self, options: Options) -> None:
        self.process = os.getpid()
        self.connections = 0  # that it may have
        self.running: dict[pycurl.Curl, Transfer] = {}
        self._options = options
        self._curl = pycurl.CurlMulti()
        self._widen(_KEPT)
        self._free: dict[str, list[Transfer]] = {method: [] for method in _KINDS}
        self._sweepers: list[Sweeper] = []
        self._sweeping = False
        self._blind = False

    def start(self, request: Request, count: Callable[[int], None] | None) -> None:
        """Begins a request; `count` as in Transfer.begin."""
        free = self._free[request.method]
        transfer = free.pop() if free else _KINDS[request.method](self._options)
        transfer.begin(request, count)
        self._add(transfer)

    def again(self, transfer: Transfer) -> None:
        """Begins another try."""
        transfer.again()
        self._add(transfer)

    def step(self, patience: float) -> list[Ended]:
        """Moves what can be moved; the transfers that ended. Without any, waits until there is more to do.

        The wait is over after `patience` seconds. A transfer that ended is either begun again, or freed.
        """
        if os.getpid() != self.process:
            raise RuntimeError("a transfer cannot go on in a forked process; begin it there")
        self._curl.perform()
        ended = self._ended()
        if not ended and patience > 0:
            self._wait(patience, len(self.running))
        return ended

    def free(self, transfer: Transfer) -> None:
        """The transfer is done, and its handle may serve another one."""
        method = transfer.request.method
        transfer.end()
        self._free[method].append(transfer)

    def sweep(self, ranges: Sequence[Range], take: Take, parallelism: int) -> tuple[list[int], float | None]:
        """Gives `take` the bodies of small ranges. Answers the numbers of those that are left, and the seconds to the
        first byte of the first answer.

        The first that is out of the ordinary ends it: what is under way then is waited for, and no other request
        begins. One that is silent while others are answered is left at once; where none is, S3 may be slow just now.
        """
        sweepers = self._sweepers_for(min(parallelism, len(ranges)))
        perform, add, remove = self._curl.perform, self._curl.add_handle, self._curl.remove_handle
        more, done = enumerate(ranges), bytearray(len(ranges))
        first_byte: float | None = None
        self._widen(len(sweepers))
        self._sweeping = True
        now = looked = time.monotonic()
        newest = slowest = 0.0  # of those that were answered: the last to begin, and the seconds that one took
        for sweeper in sweepers.values():
            sweeper.begin(*next(more), now)
            add(sweeper.curl)
        running = len(sweepers)
        while running:
            perform()
            _, good, bad = self._curl.info_read(running)
            if good:
                now = time.monotonic()
                if first_byte is None:
                    first_byte = good[0].getinfo(pycurl.STARTTRANSFER_TIME) - good[0].getinfo(pycurl.PRETRANSFER_TIME)
            for curl in good:
                remove(curl)
                sweeper = sweepers[curl]
                number, body, began = sweeper.number, sweeper.body(), sweeper.began
                newest, slowest = max(newest, began), max(slowest, now - began)
                if body is None:
                    more = enumerate(())
                elif (numbered := next(more, None)) is not None:
                    sweeper.begin(*numbered, now)
                    add(curl)
                    running += 1
                running -= 1
                if body is not None:
                    done[number] = 1
                    take(number, body)
            for curl, _, _ in bad:
                remove(curl)
                sweepers[curl].clear()
                running -= 1
                more = enumerate(())
            if good or not running:
                continue
            self._wait(TICK, running)
            now = time.monotonic()
            if now - looked > TICK:
                looked = now
                running -= self._leave(sweepers.values(), newest, now - max(_SILENCE, _SLOWER * slowest))
        self._sweeping = False
        return [number for number, is_done in enumerate(done) if not is_done], first_byte

    def _leave(self, sweepers: Iterable[Sweeper], newest: float, before: float) -> int:
        """Takes out those to which no answer has begun, though they began as early as this; how many."""
        latest = min(newest, before)
        silent = [each for each in sweepers if each.began <= latest and each.silent and each.curl.multi() is not None]
        for sweeper in silent:
            self._curl.remove_handle(sweeper.curl)
            sweeper.clear()
        return len(silent)

    def abandon(self) -> None:
        """Takes out what is still under way, as after an error; these connections are closed."""
        for transfer in self.running.values():
            self._curl.remove_handle(transfer.curl)
            self.free(transfer)
        self.running.clear()
        for sweeper in self._sweepers if self._sweeping else ():
            if sweeper.curl.multi() is not None:
                self._curl.remove_handle(sweeper.curl)
                sweeper.clear()
        self._sweeping = False
        self._blind = False  # the next call's descriptors may be others

    def close(self) -> None:
        """Closes all connections."""
        self.abandon()
        for transfers in self._free.values():
            for transfer in transfers:
                transfer.curl.close()
        for sweeper in self._sweepers:
            sweeper.curl.close()
        self._curl.close()

    def _sweepers_for(self, count: int) -> dict[pycurl.Curl, Sweeper]:
        for _ in range(len(self._sweepers), count):
            self._sweepers.append(Sweeper(new_handle(self._options), self._options.patience))
        return {sweeper.curl: sweeper for sweeper in self._sweepers[:count]}

    def _add(self, transfer: Transfer) -> None:
        self._curl.add_handle(transfer.curl)
        self.running[transfer.curl] = transfer
        self._widen(len(self.running))

    def _widen(self, count: int) -> None:
        """So many run at a time now; it keeps no more connections than that."""
        if count > self.connections:
            self.connections = count
            self._curl.setopt(pycurl.M_MAXCONNECTS, count)

    def _ended(self) -> list[Ended]:
        running, remove = self.running, self._curl.remove_handle
        _, good, bad = self._curl.info_read(len(running) + 1)
        ended = [(running.pop(curl), 0, "") for curl in good]
        ended += [(running.pop(curl), code, message) for curl, code, message in bad]
        for transfer, _, _ in ended:
            remove(transfer.curl)
        return ended

    def _wait(self, patience: float, running: int) -> None:
        if not running:
            time.sleep(patience)
            return
        due = self._curl.timeout()  # milliseconds until libcurl has something to do by itself
        if due >= 0:
            patience = min(patience, due / 1000)
        if patience <= 0:
            return
        if self._blind:
            time.sleep(min(patience, _BLIND_WAIT))
            return
        ready = self._curl.select(patience)
        if ready <= 0:
            # select() knows descriptors below 1,024 only; a transfer that it does not see must be asked.
            reads, writes, _ = self._curl.fdset()
            self._blind = len({*reads, *writes}) < running
