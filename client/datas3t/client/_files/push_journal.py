"""What a push has under way, so that the same push, run again after a crash, goes on with it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from datas3t.client._files.plan import Begun
from datas3t.client._files.walking import Source
from datas3t.client._transfers.journal import Journal
from datas3t.client.errors import FailedPrecondition
from datas3t.local import folders
from datas3t.local.locks import locked

_STATE = Begun._fields


class PushJournal:
    """The journals of the archives that a push has begun, one small file for each.

    Args:
        server: The server's URL.
        name: The datas3t.
        sources: What is pushed, with absolute bases.
        prefix: What paths begin with.
    """

    def __init__(self, server: str, name: str, sources: Sequence[Source], prefix: str) -> None:
        self._server = server
        self._name = name
        digest = hashlib.sha256("\0".join((server, name, prefix)).encode())
        for source in sources:
            digest.update(b"\0" + source.base + b"\0" + source.name)
        self._kind = f"pushes/{digest.hexdigest()[:32]}"
        self._folder = folders.state() / self._kind

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from doing the same push during the block.

        Raises:
            FailedPrecondition: Another process is doing it.
        """
        with ExitStack() as stack:
            try:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                stack.enter_context(locked(self._folder / "lock", wait=0))
            except BlockingIOError:
                raise FailedPrecondition(
                    f"the same push to {self._name!r} is running already; wait for it, or stop it"
                ) from None
            except OSError:  # without a writable folder nothing is resumed
                pass
            yield
        with suppress(OSError):
            self._folder.rmdir()  # if nothing is left in it

    def begun(self) -> list[Begun]:
        """Return the archives that an earlier run has begun and not completed."""
        found = []
        with suppress(OSError):
            for path in sorted(self._folder.glob("*.json")):
                with suppress(OSError, ValueError, TypeError, KeyError):
                    content = json.loads(path.read_bytes())
                    found.append(Begun(*(content[field] for field in _STATE)))
        return found

    def of(self, begun: Begun) -> Journal:
        """Return the journal of one archive."""
        return Journal(self._kind, self._server, self._name, begun.request_id, begun._asdict())
