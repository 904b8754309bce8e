"""The user's folders, where indices and journals are kept; also for a user without a home, as in many a container."""

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path, user_state_path

_NOWHERE = Path(os.devnull)  # no folder can be made there: nothing is kept


def cache() -> Path:
    """For what can be had again."""
    return _found(lambda: user_cache_path("datas3t", False))


def state() -> Path:
    """For what must be known to go on after a crash."""
    return _found(lambda: user_state_path("datas3t", False))


def _found(find: Callable[[], Path]) -> Path:
    try:
        return find()
    except RuntimeError:  # no home
        return _temporary()


def _temporary() -> Path:
    """A folder that the same user's processes share, unless somebody else has made one in its place."""
    try:
        folder = Path(tempfile.gettempdir()) / f"datas3t-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return _NOWHERE
    return folder if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() else _NOWHERE
