"""Shards as streams of bytes: files, standard input and URLs, decompressed if they are compressed."""

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from importlib import import_module
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from datas3t.client.errors import Datas3tError, InvalidArgument

_BUFFER = 1 << 20  # bytes
_TIMEOUT = 60.0  # seconds without a byte
_MAX_WINDOW = 1 << 27  # bytes; the largest window that the format of zstd recommends decoders to support
_MAX_SHARDS = 10_000_000  # that one pattern may stand for
_RANGE = re.compile(r"\{([0-9]{1,18})\.\.([0-9]{1,18})\}")
_FAILURES = (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError)

Wait = Callable[[float], None]


class BadShard(Exception):  # noqa: N818 - it becomes a message about one shard
    """A shard cannot be read, or is not what it should be. Other shards are imported."""


class Shard(NamedTuple):
    """A shard, by what was named.

    Attributes:
        name: What was named, without what may be secret in it: for messages, and for the journal.
        source: The path, the URL, or "-" for standard input.
    """

    name: str
    source: str

    @property
    def is_url(self) -> bool:
        """Whether it is fetched by HTTP."""
        return self.source.startswith(("http://", "https://"))


class Opened(NamedTuple):
    """A shard that is read.

    Attributes:
        stream: Its bytes, decompressed.
        raw: Its bytes as they are; `tell` says how many were read.
        size: How many bytes `raw` has; 0 if that is not known.
        stamp: What changes when the shard does; empty if that is not known.
    """

    stream: io.BufferedIOBase
    raw: io.BufferedReader
    size: int
    stamp: str


def named(source: str | os.PathLike[str]) -> Iterator[Shard]:
    """Yield the shards that a path, URL or pattern such as `train-{000..145}.tar` stands for.

    Raises:
        InvalidArgument: It is a URL that only other programs can fetch, or a pattern for too many shards.
    """
    text = os.fspath(source)
    found = _RANGE.search(text)
    if found is None or (not text.startswith("http") and os.path.exists(text)):
        yield _shard(text)
        return
    first, last = int(found[1]), int(found[2])
    if last - first >= _MAX_SHARDS:
        raise InvalidArgument(f"{text!r} stands for more than {_MAX_SHARDS} shards")
    width = len(found[1]) if found[1].startswith("0") else 0
    for number in range(first, last + 1):
        yield from named(f"{text[: found.start()]}{number:0{width}d}{text[found.end() :]}")


def stamp_of(shard: Shard) -> str:
    """Return what changes when a file does; empty for other shards."""
    if shard.is_url or shard.source == "-":
        return ""
    try:
        status = os.stat(shard.source)
    except OSError as error:
        raise BadShard(f"it cannot be read: {error.strerror}") from None
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextmanager
def opened(shard: Shard, retries: int, wait: Wait) -> Iterator[Opened]:
    """Open a shard for the block.

    Args:
        shard: The shard.
        retries: How often a request is retried.
        wait: Waits so many seconds; it may raise what ends the import.

    Raises:
        BadShard: It cannot be opened.
    """
    if shard.is_url:
        remote = _Remote(shard.source, retries, wait)
        raw: io.BufferedReader = io.BufferedReader(remote, _BUFFER)
        size, stamp = remote.size, remote.stamp
    elif shard.source == "-":
        raw, size, stamp = io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False), _BUFFER), 0, ""
    else:
        raw, size = _file(shard.source)
        stamp = stamp_of(shard)
    with raw:
        with failures_told():
            stream = _decompressed(raw)
        yield Opened(stream, raw, size, stamp)


@contextmanager
def failures_told() -> Iterator[None]:
    """Raise BadShard in place of what decompression and reading raise in the block."""
    try:
        yield
    except Datas3tError:
        raise
    except _FAILURES as error:
        raise BadShard(f"it cannot be read: {_cause(error)}") from None


def _shard(text: str) -> Shard:
    if text == "-":
        return Shard(f"- ({uuid4().hex})", text)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", text)
    if scheme and scheme[1].lower() in ("http", "https"):
        parts = urlsplit(text)
        try:
            host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
        except ValueError:
            host = None
        if not host:
            raise InvalidArgument("one of the shards is a URL without a host, or with a port that is no number")
        return Shard(f"{parts.scheme}://{host}{parts.path}", text)
    if scheme and not os.path.exists(text):
        raise InvalidArgument(
            f"{scheme[1]}: is not a kind of URL that can be read; give presigned http(s) URLs, or let another program "
            "write the shard to standard input, and name it -"
        )
    return Shard(os.path.abspath(text), text)


def _file(path: str) -> tuple[io.BufferedReader, int]:
    try:
        # O_NONBLOCK: opening a pipe would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadShard(f"it cannot be read: {error.strerror}") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise BadShard("it is not a regular file; name a shard, a TAR archive")
    return io.BufferedReader(io.FileIO(fd), _BUFFER), status.st_size


def _decompressed(raw: io.BufferedReader) -> io.BufferedIOBase:
    """Return the stream that a shard contains, judged by its first bytes."""
    start = raw.peek(6)[:6]
    if start.startswith(b"\x1f\x8b"):
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), _BUFFER)
    if start.startswith(b"BZh"):
        return io.BufferedReader(bz2.BZ2File(raw), _BUFFER)
    if start == b"\xfd7zXZ\0":
        return io.BufferedReader(lzma.LZMAFile(raw), _BUFFER)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            zstandard = import_module("zstandard")
        except ImportError:
            raise BadShard("it is compressed with zstd; pip install 'datas3t[zstd]'") from None
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(raw, read_across_frames=True)
        return io.BufferedReader(reader, _BUFFER)
    return raw


class _Remote(io.RawIOBase):
    """The bytes at a URL. After a lost connection it goes on where it was."""

    def __init__(self, url: str, retries: int, wait: Wait) -> None:
        self._url = url
        self._retries = retries
        self._wait = wait
        self._position = 0
        self.size, self.stamp = 0, ""
        self._response: HTTPResponse | None = None
        self._again(self._open)

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        self._drop()
        super().close()

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        count = self._again(lambda: self._read(buffer))
        self._position += count
        return count

    def _read(self, buffer: "bytearray | memoryview") -> int:
        if self._response is None:
            self._open()
        assert self._response is not None
        count = self._response.readinto(buffer)
        if not count and self._position < self.size:
            raise OSError(f"the connection was lost at byte {self._position} of {self.size}")
        return count

    def _open(self) -> None:
        request = urllib.request.Request(self._url, headers={"Accept-Encoding": "identity"})  # noqa: S310 - HTTP only
        if self._position:
            request.add_header("Range", f"bytes={self._position}-")
        response = _opener().open(request, timeout=_TIMEOUT)
        stamp = "-".join(filter(None, (response.headers.get("ETag"), response.headers.get("Last-Modified"))))
        if self._position:
            if stamp != self.stamp:
                raise BadShard("it was changed while it was read")
            if response.status != 206:
                _skip(response, self._position)
        else:
            length = response.headers.get("Content-Length", "")
            self.size, self.stamp = int(length) if length.isdigit() else 0, stamp
        self._response = response

    def _again(self, attempt: Callable[[], "int | None"]) -> int:
        """Return what an attempt returns, after as many failures as are allowed."""
        for failed in range(self._retries + 1):
            try:
                return attempt() or 0
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500 and error.code not in (408, 429):
                    raise BadShard(f"HTTP status {error.code}: {error.reason}") from None
                cause = f"HTTP status {error.code}"
            except (OSError, HTTPException) as error:
                cause = _cause(error)
            self._drop()
            if failed < self._retries:
                self._wait(min(2.0**failed, 30.0) / 2)
        raise BadShard(f"it cannot be fetched: {cause}")

    def _drop(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            with suppress(OSError):
                response.close()


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens URLs. It follows redirects to http(s) alone."""
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        director.add_handler(handler())
    return director


def _skip(response: HTTPResponse, count: int) -> None:
    while count:
        piece = response.read(min(count, _BUFFER))
        if not piece:
            raise OSError("the connection was lost")
        count -= len(piece)


def _cause(error: BaseException) -> str:
    """Return what happened, without a URL."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        error = error.reason
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return re.sub(r"https?://\S+", "the URL", str(error)) or type(error).__name__
