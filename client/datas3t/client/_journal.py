"""What an upload must know to go on after a crash: a small file in the user's state folder, until it is complete.

Without a folder that can be written to an upload works as well; it only begins anew after a crash.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from platformdirs import user_state_dir

from datas3t.client._source import Source

_OLD = 30 * 86_400  # seconds; the server ended such an upload long ago


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload that was started, and, once everything is in S3, the ETags of its parts in order."""

    upload_id: int
    sent: bool = False
    etags: tuple[str, ...] = ()


class Journal:
    """The journal of one file's upload to one datas3t of one server."""

    def __init__(self, server: str, name: str, source: Source) -> None:
        self._about = {
            "server": server,
            "datas3t": name,
            "path": source.path,
            "size": source.size,
            "mtime_ns": source.mtime_ns,
        }
        self._folder = Path(user_state_dir("datas3t")) / "uploads"
        digest = hashlib.sha256("\0".join((server, name, source.path)).encode(errors="surrogateescape"))
        self._path = self._folder / f"{digest.hexdigest()[:32]}.json"

    def read(self) -> Begun | None:
        """The upload that was begun with the file as it is now, if there is one."""
        try:
            found = json.loads(self._path.read_bytes())
            begun = Begun(**found.pop("upload"))
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return None
        return replace(begun, etags=tuple(begun.etags)) if found == self._about else None

    def write(self, begun: Begun) -> None:
        """Notes how far the upload is; whole or not at all."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._forget_old()
            with tempfile.NamedTemporaryFile("w", dir=self._folder, suffix=".new", delete=False) as new:
                json.dump({**self._about, "upload": asdict(begun)}, new)
            os.replace(new.name, self._path)

    def forget(self) -> None:
        """The upload is over."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _forget_old(self) -> None:
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _OLD:
                    path.unlink()
