"""The token that a client shows to its server, and what `datas3t login` stored."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from datas3t.client._calls.connection import Address
from datas3t.client.errors import FileError, InvalidArgument
from datas3t.local import atomic, folders

_LONGEST = 16 << 10  # bytes of a token; those of OIDC providers have some 2,000
_LONGEST_FILE = 1 << 20  # bytes of the stored tokens


@dataclass(slots=True)
class Credentials:
    """Where a client's token comes from. No repr shows it; it is pickled with the client.

    A token of a file is read again when the file changes, because some platforms renew it there.

    Attributes:
        file: The file; None: the token stays as it is.
    """

    file: str | None
    _token: str | None = field(repr=False)
    _state: tuple[int, int, int] | None = field(default=None, repr=False)

    def is_known(self) -> bool:
        """Whether there is a token, or a file that should have one."""
        return self.file is not None or self._token is not None

    def token(self) -> str | None:
        """Return the token, or None if there is none.

        Raises:
            FileError: Its file cannot be read.
            InvalidArgument: Its file has no token.
        """
        if self.file is None:
            return self._token
        try:
            status = os.stat(self.file)
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            if state != self._state:
                with open(self.file, encoding="utf-8", errors="replace") as opened:
                    self._token = checked(opened.read(_LONGEST + 2).strip(), f"the content of {self.file}")
                self._state = state
        except OSError as error:
            raise FileError(f"{self.file}, named by DATAS3T_TOKEN_FILE, cannot be read: {error.strerror}") from None
        return self._token


def resolve(token: str | None, address: Address) -> Credentials:
    """Return the credentials for a server.

    Args:
        token: The token. None: that of DATAS3T_TOKEN, otherwise of the file that DATAS3T_TOKEN_FILE names, otherwise
            what `login` stored for the scheme, host and port of the address.
        address: The server.

    Raises:
        InvalidArgument: The token is empty, or has characters that no token has.
        FileError: The stored tokens cannot be read.
    """
    if token is not None:
        return Credentials(None, checked(token, "token"))
    if given := os.environ.get("DATAS3T_TOKEN"):
        return Credentials(None, checked(given.strip(), "DATAS3T_TOKEN"))
    if file := os.environ.get("DATAS3T_TOKEN_FILE"):
        return Credentials(os.path.abspath(file), None)
    return Credentials(None, _stored().get(_place(address)))


def checked(token: str, name: str) -> str:
    """Return a token. Raise InvalidArgument, which says `name` instead of showing it, if it can be none."""
    if not token:
        raise InvalidArgument(f"{name} is empty; give a token, or leave it out")
    if len(token) > _LONGEST or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgument(f"{name} is no token: it has spaces or characters that no token has; copy it again")
    return token


def store(address: Address, token: str) -> Path:
    """Store a token for a server, in a file that only this user can read, and return the file.

    Raises:
        FileError: The file cannot be read or written.
    """
    return _change(_stored() | {_place(address): token})


def forget(address: Address) -> bool:
    """Remove the stored token for a server, and return whether there was one.

    Raises:
        FileError: The file cannot be read or written.
    """
    stored = _stored()
    known = stored.pop(_place(address), None) is not None
    if known:
        _change(stored)
    return known


def _place(address: Address) -> str:
    """Return scheme, host and port."""
    return f"{'https' if address.tls else 'http'}://{address.target.lower()}"


def _file() -> Path:
    return folders.config() / "tokens.json"


def _stored() -> dict[str, str]:
    file = _file()
    try:
        with file.open("rb") as opened:
            content = json.loads(opened.read(_LONGEST_FILE))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise FileError(f"{file}, the tokens that `datas3t login` stored, cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not all(isinstance(token, str) for token in content.values()):
        raise FileError(f"{file} is not what `datas3t login` stored; remove it, and log in again")
    return content


def _change(stored: dict[str, str]) -> Path:
    file = _file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.write(file, json.dumps(stored, indent=2).encode(), mode=0o600)
    except OSError as error:
        raise FileError(f"{file} cannot be written: {error.strerror}") from None
    return file
