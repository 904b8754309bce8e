"""The account that PostgreSQL runs under if `datas3t up` is run by root, which PostgreSQL refuses to run as.

It is an account of its own, because whatever else runs as `nobody` could read and change the cluster.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

NAME = "datas3t-postgres"
_FALLBACK = "nobody"
_SYSTEM_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_ATTEMPTS = 20  # useradd fails while another program has locked the list of accounts
_PAUSE = 0.1  # seconds


@dataclass(frozen=True)
class Account:
    """The account that runs a program that refuses to run as root."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Return the account for PostgreSQL if this process is root, otherwise None. It is created at the first use.

    Where no account can be created (no useradd, a system that cannot be written), it is `nobody`.
    """
    if os.geteuid() != 0:
        return None
    return _existing(NAME) or _created() or _existing(_FALLBACK)


def give(folder: Path, account: Account) -> None:
    """Give a cluster to the account, if an earlier release of datas3t has run it under another one.

    The folder itself comes last, so that an interrupted change is continued. What does not belong to its owner, such as
    a hard link that the owner has put there, is left alone.
    """
    owner = folder.stat().st_uid
    if owner == account.uid:
        return
    for _, folders, files, descriptor in os.fwalk(folder, topdown=False):
        for name in (*files, *folders):
            if os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_uid == owner:
                os.chown(name, account.uid, account.gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(folder, account.uid, account.gid)


def _existing(name: str) -> Account | None:
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam(name)
        return Account(name, entry.pw_uid, entry.pw_gid)
    return None


def _created() -> Account | None:
    """Create the account, and return it, or None if that is not possible here."""
    useradd = shutil.which("useradd", path=_SYSTEM_PATH)
    if useradd is None:
        return None
    command = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    for _ in range(_ATTEMPTS):
        done = subprocess.run(
            [*command, "--shell", "/usr/sbin/nologin", NAME],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"PATH": _SYSTEM_PATH, "LC_ALL": "C"},
        )
        if account := _existing(NAME):  # also if another process was faster
            return account
        if b"cannot lock" not in done.stderr:
            return None
        time.sleep(_PAUSE)
    return None
