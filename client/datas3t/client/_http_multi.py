"""A libcurl multi: transfers that run at the same time, and the connections that they leave for the next ones."""

import os
import time
from collections.abc import Callable, Sequence

import pycurl

from datas3t.client._http_get import Get
from datas3t.client._http_messages import Request
from datas3t.client._http_put import Put
from datas3t.client._http_sweep import Sweeper
from datas3t.client._http_transfer import Options, Transfer, new_handle

_KINDS: dict[str, type[Transfer]] = {"GET": Get, "PUT": Put}
TICK = 0.25  # seconds; a signal that another thread got is noticed within it
_BLIND_WAIT = 0.002  # seconds, where libcurl cannot wait by itself: descriptors of 1,024 and more

Ended = tuple[Transfer, int, str]  # with libcurl's code and message


class Multi:
    """Belongs to one thread at a time, and to the process that made it."""

    def __init__(self, options: Options, connections: int) -> None:
        self.process = os.getpid()
        self.running: dict[pycurl.Curl, Transfer] = {}
        self._options = options
        self._curl = pycurl.CurlMulti()
        self._curl.setopt(pycurl.M_MAXCONNECTS, connections)
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

    def sweep(self, requests: Sequence[Request], parallelism: int) -> list[bytes | None]:
        """The bodies of requests that fit a sweep, in their order; None where something was out of the ordinary.

        The first of these ends it: what is under way then is waited for, and no other request begins.
        """
        bodies: list[bytes | None] = [None] * len(requests)
        sweepers = self._sweepers_for(min(parallelism, len(requests)))
        perform, add, remove = self._curl.perform, self._curl.add_handle, self._curl.remove_handle
        more = enumerate(requests)
        self._sweeping = True
        for sweeper in sweepers.values():
            sweeper.begin(*next(more))
            add(sweeper.curl)
        running = len(sweepers)
        while running:
            perform()
            _, good, bad = self._curl.info_read(running)
            for curl in good:
                remove(curl)
                sweeper = sweepers[curl]
                bodies[sweeper.number] = body = sweeper.body()
                if body is not None and (numbered := next(more, None)) is not None:
                    sweeper.begin(*numbered)
                    add(curl)
                    continue
                running -= 1
                if body is None:
                    more = enumerate(())
            for curl, _, _ in bad:
                remove(curl)
                sweepers[curl].clear()
                running -= 1
                more = enumerate(())
            if running and not good:
                self._wait(TICK, running)
        self._sweeping = False
        return bodies

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
            self._sweepers.append(Sweeper(new_handle(self._options), self._options.stall_timeout))
        return {sweeper.curl: sweeper for sweeper in self._sweepers[:count]}

    def _add(self, transfer: Transfer) -> None:
        self._curl.add_handle(transfer.curl)
        self.running[transfer.curl] = transfer

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
