"""decode: what a datapoint contains, by its extension: JSON, text, arrays, images, sound."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from datas3t.client import Datas3tError, PackageMissing

MAX_SIZE = 1 << 30

_PIECE = 1 << 20  # bytes that are decompressed at a time

_IMAGES = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}
_PLAIN_MODES = {"L", "LA", "RGB", "RGBA", "I;16", "I", "F"}  # the others are palettes, bits, or colours of printers


class Named(Protocol):
    """A datapoint: `Datapoint`, or a view of one."""

    @property
    def name(self) -> str:
        """The name of its entry, which ends with the extension."""
        ...

    @property
    def content(self) -> bytes | memoryview:
        """Its content."""
        ...


class Audio(NamedTuple):
    """Sound: samples of float32 from -1 to 1, with a row for each moment and a column for each channel."""

    samples: NDArray[np.float32]
    rate: int


class DecodeFailed(Datas3tError, ValueError):  # noqa: N818 - as all errors of the client
    """A content is damaged, or larger than allowed, when it is decoded."""


def decode(datapoint: Named, *, allow_pickle: bool = False, limit: int = MAX_SIZE) -> Any:
    """Return what a datapoint contains, according to its extension in upper or lower case.

    | extension | result |
    |---|---|
    | json | what the JSON says |
    | txt | text, UTF-8 |
    | npy | an array of numpy |
    | npz | a dictionary of such arrays |
    | jpg, jpeg, png, webp | an array of uint8 in the shape (height, width, channels); needs Pillow |
    | wav, flac | `Audio`; needs soundfile |
    | any of these before .gz or .zst | the same, after decompression; zst needs zstandard |
    | pkl, pickle, pth, pt | only with `allow_pickle`: the object; the last two need PyTorch |
    | any other | the content as it is, after decompression |

    Args:
        datapoint: The datapoint, as `scan` yields it.
        allow_pickle: Whether pickles are loaded. A pickle can run any code: allow it only if you trust whoever uploaded
            it.
        limit: How many bytes the decompressed or decoded content may have.

    Raises:
        DecodeFailed: The content is damaged, or larger than `limit` after decompression.
        PackageMissing: The package that decodes it is not installed.

    Example:
        >>> for datapoint in photos.scan():
        ...     height, width, channels = decode(datapoint).shape
    """
    content, name = bytes(datapoint.content), datapoint.name
    extensions = name.lower().split(".")[1:]
    try:
        while extensions and (decompress := _COMPRESSED.get(extensions[-1])):
            content = decompress(content, limit)
            extensions.pop()
        if not extensions:
            return content
        kind = extensions[-1]
        if (pickled := _PICKLES.get(kind)) is not None:
            return pickled(content) if allow_pickle else content
        if kind in {"npy", "npz"}:
            return _array(content, allow_pickle) if kind == "npy" else _arrays(content, allow_pickle, limit)
        if kind in _IMAGES:
            return _image(content, _IMAGES[kind], limit)
        return _DECODERS[kind](content, limit) if kind in _DECODERS else content
    except PackageMissing:
        raise
    except Exception as error:  # decoders raise anything for damaged contents
        raise DecodeFailed(f"datapoint {name} cannot be decoded: {str(error) or type(error).__name__}") from error


def _gunzipped(content: bytes, limit: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        return _read(file, limit)


def _unzstd(content: bytes, limit: int) -> bytes:
    zstandard = _package("zstandard", "zst", "zstd")
    # The largest window that the format recommends decoders to support, so that a few bytes cannot ask for gigabytes.
    reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(content, read_across_frames=True)
    return _read(reader, limit)


def _read(file: Any, limit: int) -> bytes:
    """Return what a file decompresses to, of which no more than the limit is ever held."""
    out = io.BytesIO()
    while piece := file.read(min(_PIECE, limit + 1 - out.tell())):
        out.write(piece)
        _check_size(out.tell(), limit)
    return out.getvalue()


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"it has more than {limit} bytes; raise `limit` if you trust it")


def _json(content: bytes, _limit: int) -> Any:
    return json.loads(content)


def _text(content: bytes, _limit: int) -> str:
    return content.decode()


def _array(content: bytes, allow_pickle: bool) -> Any:
    if not content.startswith(b"\x93NUMPY"):  # numpy would take it for another format
        raise ValueError("it is no array of numpy")
    return np.load(io.BytesIO(content), allow_pickle=allow_pickle)


def _arrays(content: bytes, allow_pickle: bool, limit: int) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        _check_size(sum(member.file_size for member in members), limit)
        return {member.filename.removesuffix(".npy"): _array(archive.read(member), allow_pickle) for member in members}


def _image(content: bytes, kind: str, limit: int) -> NDArray[Any]:
    images = _package("PIL.Image", kind.lower(), "training")
    with images.open(io.BytesIO(content), formats=[kind]) as image:
        _check_size(image.width * image.height * len(image.getbands()), limit)
        if image.mode not in _PLAIN_MODES:
            has_alpha = image.mode in {"PA", "RGBa", "La"} or "transparency" in image.info
            image = image.convert("RGBA" if has_alpha else "L" if image.mode == "1" else "RGB")  # noqa: PLW2901
        pixels = np.array(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _sound(content: bytes, limit: int) -> Audio:
    soundfile = _package("soundfile", "wav and .flac", "training")
    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        _check_size(sound.frames * sound.channels * 4, limit)
        return Audio(sound.read(dtype="float32", always_2d=True), sound.samplerate)


def _unpickled(content: bytes) -> Any:
    return import_module("pickle").loads(content)


def _tensors(content: bytes) -> Any:
    return _package("torch", "pth", "").load(io.BytesIO(content), weights_only=False, map_location="cpu")


def _package(name: str, extension: str, extra: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        package = {"PIL.Image": "Pillow"}.get(name, name)
        install = f"'datas3t[{extra}]'" if extra else package
        raise PackageMissing(f"decoding .{extension} needs {package}; run: pip install {install}") from None


_COMPRESSED: dict[str, Callable[[bytes, int], bytes]] = {"gz": _gunzipped, "zst": _unzstd}
_DECODERS: dict[str, Callable[[bytes, int], Any]] = {"json": _json, "txt": _text, "wav": _sound, "flac": _sound}
_PICKLES: dict[str, Callable[[bytes], Any]] = {
    "pkl": _unpickled,
    "pickle": _unpickled,
    "pth": _tensors,
    "pt": _tensors,
}
