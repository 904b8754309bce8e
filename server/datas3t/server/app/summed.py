"""The metrics of a worker, whose page has the sums over all workers of the server.

Each worker answers on a unix socket in the server's folder. It also keeps its last answer in a file, for the time that
it does not respond, and for the worker that takes its place: a sum that was exported never becomes less.
"""

import json
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from datas3t.local import atomic
from datas3t.server.telemetry.metrics import Metrics

_SECONDS = 0.5  # for the other workers to answer
_SEND_SECONDS = 2.0  # for an answer to be taken
_CUMULATIVE = ("counter", "histogram")  # what a worker leaves to the one that takes its place

Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """A metric: its kind, its help text, and its values by sample and labels."""

    kind: str
    help: str
    values: dict[tuple[str, Labels], float]


Families = dict[str, Family]


class SummedMetrics(Metrics):
    """The metrics of worker `number` of 1 to `workers`."""

    def __init__(self, folder: Path, number: int, workers: int) -> None:
        super().__init__()
        self._file, self._socket = _places(folder, number)
        self._others = [_places(folder, other) for other in range(1, workers + 1) if other != number]
        self._lock = threading.Lock()  # so that the file never becomes older
        self._before = _cumulative(_read(self._file))

    def serve(self) -> None:
        """Start to answer the other workers."""
        self._socket.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self._socket))
        listening.listen()
        threading.Thread(target=self._answer, args=[listening], name="metrics", daemon=True).start()

    def page(self) -> bytes:
        """Return the sums over all workers. Those that do not respond are counted as they were last."""
        own = self._own()
        answers = _ask([path for _, path in self._others], time.monotonic() + _SECONDS)
        others = [_known(answers.get(path), file) for file, path in self._others]
        registry = CollectorRegistry()
        registry.register(_Fixed(_sum([own, *others])))
        return generate_latest(registry) + generate_latest(self.shared)

    def _own(self) -> Families:
        """Return the metrics of this worker and of those before in its place, and keep them in the file."""
        with self._lock:
            families = _sum([_collected(self.registry), self._before])
            with suppress(OSError):
                atomic.write(self._file, _encoded(families))
        return families

    def _answer(self, listening: socket.socket) -> None:
        while True:
            asker, _ = listening.accept()
            with asker, suppress(OSError):
                asker.settimeout(_SEND_SECONDS)
                asker.sendall(_encoded(self._own()))


class _Fixed(Collector):
    """Metrics that were read before."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            metric = Metric(name, family.help, family.kind)
            metric.samples = [Sample(sample, dict(labels), value) for (sample, labels), value in family.values.items()]
            yield metric


def _places(folder: Path, number: int) -> tuple[Path, Path]:
    """Return the file and the socket of a worker."""
    return folder / f"{number}.metrics", folder / f"{number}.socket"


def _collected(registry: CollectorRegistry) -> Families:
    return {
        metric.name: Family(
            metric.type,
            metric.documentation,
            {(each.name, tuple(each.labels.items())): each.value for each in metric.samples},
        )
        for metric in registry.collect()
    }


def _sum(several: Iterable[Families]) -> Families:
    total: Families = {}
    for families in several:
        for name, family in families.items():
            values = total.setdefault(name, Family(family.kind, family.help, {})).values
            for key, value in family.values.items():
                values[key] = _together(key[0], values[key], value) if key in values else value
    return total


def _together(sample: str, one: float, other: float) -> float:
    """Return the value of a sample for two workers. Times are those of the first one, and marks stay marks."""
    if sample.endswith(("_created", "_start_time_seconds")):
        return min(one, other)
    return max(one, other) if sample.endswith("_info") else one + other


def _cumulative(families: Families) -> Families:
    return {name: family for name, family in families.items() if family.kind in _CUMULATIVE}


def _known(answer: bytes | None, file: Path) -> Families:
    """Return what is known of a worker from its answer: empty if it hangs, and None if it has ended."""
    if answer:
        with suppress(ValueError):
            return _decoded(answer)
    return _cumulative(_read(file)) if answer is None else _read(file)


def _read(file: Path) -> Families:
    try:
        return _decoded(file.read_bytes())
    except (OSError, ValueError):
        return {}


def _encoded(families: Families) -> bytes:
    rows = [
        [name, family.kind, family.help, [[*key, value] for key, value in family.values.items()]]
        for name, family in families.items()
    ]
    return json.dumps(rows).encode()


def _decoded(data: bytes) -> Families:
    return {
        name: Family(
            kind,
            text,
            {(sample, tuple((key, label) for key, label in labels)): value for sample, labels, value in rows},
        )
        for name, kind, text, rows in json.loads(data)
    }


def _ask(paths: Iterable[Path], deadline: float) -> dict[Path, bytes]:
    """Return the answers that arrive whole before the deadline. They are empty where none did, but somebody listens."""
    answers: dict[Path, bytes] = {}
    received: dict[Path, bytearray] = {}
    with selectors.DefaultSelector() as waiting:
        for path in paths:
            asked = socket.socket(socket.AF_UNIX)
            asked.setblocking(False)
            try:
                asked.connect(str(path))
            except BlockingIOError:  # too many wait for an answer already
                answers[path] = b""
            except OSError:
                pass
            else:
                answers[path], received[path] = b"", bytearray()
                waiting.register(asked, selectors.EVENT_READ, path)
                continue
            asked.close()
        while waiting.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                assert isinstance(key.fileobj, socket.socket)
                path = key.data
                try:
                    data = key.fileobj.recv(1 << 20)
                except OSError:  # it has ended in the middle
                    data, received[path] = b"", bytearray()
                received[path] += data
                if not data:
                    answers[path] = bytes(received[path])
                    waiting.unregister(key.fileobj)
                    key.fileobj.close()
        for key in list(waiting.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
    return answers
