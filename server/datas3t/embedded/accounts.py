"""The account that PostgreSQL runs under if `datas3t up` runs as root, because PostgreSQL refuses to run as root.

It is a separate account, because other programs that run as `nobody` could read and change the cluster.
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
_ATTEMPTS = 20  # for useradd, which fails while another program has locked the list of accounts
_PAUSE = 0.1  # seconds


@dataclass(frozen=True)
class Account:
    """An account for a program that refuses to run as root."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Return the account for PostgreSQL if this process is root, otherwise None. It is created on first use.

    If it cannot be created (no useradd, or a read-only system), return `nobody`.
    """
    if os.geteuid() != 0:
        return None
    return _existing(NAME) or _created() or _existing(_FALLBACK)


def give(folder: Path, account: Account) -> None:
    """Make the account own a cluster that an earlier release of datas3t ran under another account.

    The folder itself is changed last, so that an interrupted change is continued. Files of other owners are left
    unchanged, because they may be hard links that the previous account created.
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
    """Create and return the account, or return None if that is not possible."""
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
        if account := _existing(NAME):  # also if another process has created it in the meantime
            return account
        if b"cannot lock" not in done.stderr:
            return None
        time.sleep(_PAUSE)
    return None
