"""The user's folders for cached indices and journals, also for users without a home directory, as in containers."""

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path, user_config_path, user_data_path, user_state_path

_MAX_SOCKET_FOLDER = 85  # bytes; Linux allows 108 and macOS 104, with the name of the socket
_UNUSABLE = Path(os.devnull)  # no folder can be created below it, so nothing is kept


def cache() -> Path:
    """Return the folder for files that can be downloaded again. It may not exist yet."""
    return _user_folder(lambda: user_cache_path("datas3t", False))


def state() -> Path:
    """Return the folder for files that are needed to continue after a crash. It may not exist yet."""
    return _user_folder(lambda: user_state_path("datas3t", False))


def data() -> Path:
    """Return the folder in which `datas3t up` keeps its data, unless told otherwise. It may not exist yet."""
    return Path("/var/lib/datas3t") if os.geteuid() == 0 else user_data_path("datas3t", False)


def config() -> Path:
    """Return the folder for what the user has set. It may not exist yet."""
    return _user_folder(lambda: user_config_path("datas3t", False))


def private_folder() -> Path:
    """Create and return a temporary folder that only this user may enter, with a path short enough for sockets in it.

    The caller removes it.
    """
    folder = Path(tempfile.mkdtemp(prefix="datas3t-"))
    if len(str(folder)) > _MAX_SOCKET_FOLDER:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="datas3t-", dir="/tmp"))
    return folder


def _user_folder(platform_folder: Callable[[], Path]) -> Path:
    try:
        return platform_folder()
    except RuntimeError:  # the user has no home directory
        return _temporary_folder()


def _temporary_folder() -> Path:
    """Return a folder for temporary files that all processes of the user share.

    Anyone may create files there, so a folder of another user, or a link, is not used.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"datas3t-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return _UNUSABLE
    return folder if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() else _UNUSABLE
