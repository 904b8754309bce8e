"""`cat-range --decompress`: decompress the content of a datapoint according to its extension."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import click

_PIECE = 1 << 20  # bytes that are decompressed at a time: a small content may become a very large one
_ZSTD_PIECE = 4096  # compressed bytes, which become at most 128 MB


def decompressed(name: str, content: bytes) -> Iterator[bytes]:
    """Yield the decompressed content of the datapoint whose entry has this name, piece by piece.

    Content whose extension is not that of a compressor is yielded unchanged.

    Raises:
        ClickException: The content is damaged, or the package that decompresses it is not installed.
    """
    decompress = _BY_EXTENSION.get(name.rpartition(".")[2].lower())
    if decompress is None:
        yield content
        return
    try:
        yield from decompress(content)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        message = f"datapoint {name} cannot be decompressed: {error}; leave out --decompress to get it as it is"
        raise click.ClickException(message) from None


def _by(opener: Callable[[Any], Any]) -> Callable[[bytes], Iterator[bytes]]:
    def decompress(content: bytes) -> Iterator[bytes]:
        with opener(io.BytesIO(content)) as stream:
            while piece := stream.read(_PIECE):
                yield piece

    return decompress


def _zstd(content: bytes) -> Iterator[bytes]:
    try:
        import zstandard
    except ModuleNotFoundError:
        message = "decompressing .zst needs an optional package; run: pip install 'datas3t[zstd]'"
        raise click.ClickException(message) from None
    position = 0
    while position < len(content):
        frame = zstandard.ZstdDecompressor().decompressobj()
        while not frame.eof:
            if position >= len(content):
                raise EOFError("it ends within a frame")
            try:
                yield frame.decompress(content[position : position + _ZSTD_PIECE])
            except zstandard.ZstdError as error:
                raise ValueError(error) from None
            position += _ZSTD_PIECE
        position = min(position, len(content)) - len(frame.unused_data)


def _without_library(extension: str) -> Callable[[bytes], Iterator[bytes]]:
    def refuse(_: bytes) -> Iterator[bytes]:
        raise ValueError(f"gz, bz2, xz and zst are known, {extension} is not")

    return refuse


_BY_EXTENSION = {
    "gz": _by(lambda file: gzip.GzipFile(fileobj=file)),
    "bz2": _by(bz2.BZ2File),
    "xz": _by(lzma.LZMAFile),
    "zst": _zstd,
    "br": _without_library("br"),
    "lz4": _without_library("lz4"),
}
