"""What an upload or an aggregate must know to go on after a crash: a small file in the user's state folder, until it is
complete.

Without a folder that can be written to they work as well; they only begin anew after a crash.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from datas3t.client._transfers.source import Source
from datas3t.local import atomic, folders

_OLD = 30 * 86_400  # seconds; the server has ended it long ago


@dataclass(frozen=True, slots=True)
class Begun:
    """What was started, by its id, and, once everything is in S3, the ETags of its parts in order."""

    upload_id: int
    sent: bool = False
    etags: tuple[str, ...] = ()


class Journal:
    """The journal of what is done to one datas3t of one server: `identity` tells it from the others of the same `kind`,
    and what was noted counts only as long as `state` is the same."""

    def __init__(self, kind: str, server: str, name: str, identity: str, state: Mapping[str, object]) -> None:
        self._about = {"server": server, "datas3t": name, **state}
        self._folder = folders.state() / kind
        digest = hashlib.sha256("\0".join((server, name, identity)).encode(errors="surrogateescape"))
        self._path = self._folder / f"{digest.hexdigest()[:32]}.json"

    @classmethod
    def of_upload(cls, server: str, name: str, source: Source) -> "Journal":
        """That of one file's upload; of the file as it is now."""
        state = {"path": source.path, "size": source.size, "mtime_ns": source.mtime_ns}
        return cls("uploads", server, name, source.path, state)

    @classmethod
    def of_aggregate(cls, server: str, name: str, first: int, last: int) -> "Journal":
        """That of the aggregate of these keys."""
        return cls("aggregates", server, name, f"{first}-{last}", {"first": first, "last": last})

    def read(self) -> Begun | None:
        """What was begun with things as they are now, if anything was."""
        try:
            found = json.loads(self._path.read_bytes())
            begun = Begun(**found.pop("upload"))
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return None
        return replace(begun, etags=tuple(begun.etags)) if found == self._about else None

    def write(self, begun: Begun) -> None:
        """Notes how far it is; whole or not at all."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._forget_old()
            atomic.write(self._path, json.dumps({**self._about, "upload": asdict(begun)}).encode())

    def forget(self) -> None:
        """It is over."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _forget_old(self) -> None:
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _OLD:
                    path.unlink()
