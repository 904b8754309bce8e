"""A client's settings, and this process's connection to the server."""

import os
import warnings
from pathlib import Path

from datas3t.client._calls import credentials
from datas3t.client._calls.connection import Connection, TlsFiles, connect, resolve_address
from datas3t.client.errors import InvalidArgument
from datas3t.local import folders


class Session:
    """The settings of one client, shared with the handles that it creates.

    Safe to use from many threads and after a fork. It is pickled without its connection: another process opens its own.

    Args:
        url: The server's address; see `Client`.
        timeout: Seconds that one attempt of a call may take.
        cache_dir: The folder of the index cache. None: the one named in the environment, otherwise the user's.
        max_cache_size: The bytes that the cache may hold.
        verify: Whether contents are compared with their checksums.
        ca_file: The certificates to trust for connections to the server; see `Client`.
        token: What the server is shown; see `Client`.
    """

    def __init__(
        self,
        url: str | None,
        *,
        timeout: float,
        cache_dir: str | os.PathLike[str] | None,
        max_cache_size: int,
        verify: bool = True,
        ca_file: str | os.PathLike[str] | None = None,
        token: str | None = None,
    ) -> None:
        self._address = resolve_address(url)
        self._credentials = credentials.resolve(token, self._address)
        self._tls = TlsFiles.of(ca_file)
        self._timeout = timeout
        if cache_dir == "":
            raise InvalidArgument("cache_dir is empty; name a folder, or leave it out")
        self._cache_dir = cache_dir or os.environ.get("DATAS3T_CACHE_DIR")
        self.max_cache_size = max_cache_size
        self.verify = verify
        self._connection: Connection | None = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_connection": None}

    @property
    def url(self) -> str:
        """The server's address."""
        return self._address.url

    @property
    def cache_dir(self) -> Path:
        """The folder that holds cached indices and checksums."""
        return Path(self._cache_dir or folders.cache()) / "indices"

    @property
    def connection(self) -> Connection:
        """This process's connection, opened at its first use."""
        connection = self._connection
        if connection is None or connection.process != os.getpid():
            self._connection = connection = self._connect()
        return connection

    def _connect(self) -> Connection:
        address, token = self._address, self._credentials.token
        if not address.tls and not address.loopback and token() is not None:
            message = f"the token is sent to {address.url} without encryption, and others can read it; use https://"
            warnings.warn(message, UserWarning, stacklevel=2)
        return connect(address, self._timeout, self._tls, token)

    def close(self) -> None:
        """Close this process's connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.process == os.getpid():
            connection.close()
