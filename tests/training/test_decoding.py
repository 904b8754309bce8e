"""decode: each extension, damaged contents, contents that grow, and no pickle."""

import gzip
import io
import pickle
import sys
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest

from datas3t.client import Datapoint, DatapointView, PackageMissing
from datas3t.training import DecodeFailed, decode

Image = import_module("PIL.Image")
soundfile = import_module("soundfile")
zstandard = import_module("zstandard")

PIXELS = np.random.default_rng(1).integers(0, 256, (7, 5, 3), np.uint8)
KEY = "00000000000000000007"


def named(extension: str, content: bytes) -> Datapoint:
    return Datapoint(7, f"{KEY}.{extension}", content)


def image(mode: str, kind: str) -> bytes:
    out = io.BytesIO()
    picture = Image.fromarray(PIXELS).convert(mode)
    if mode.endswith("A"):
        picture.putalpha(100)  # WebP leaves out an alpha channel that hides nothing
    picture.save(out, kind)
    return out.getvalue()


def array(value: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, value, **options)
    return out.getvalue()


def arrays(**values: Any) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **values)
    return out.getvalue()


def sound(kind: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.array([[0.5, -0.5], [0.25, 0.0]]), 16_000, format=kind)
    return out.getvalue()


class Evil(NamedTuple):
    """An object whose pickle would end this process."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return sys.exit, ("a pickle was loaded",)


def test_text_and_json() -> None:
    assert decode(named("json", b'{"a": [1, 2.5, null]}')) == {"a": [1, 2.5, None]}
    assert decode(named("txt", "Öl".encode())) == "Öl"
    assert decode(named("TXT", b"a")) == "a"
    assert decode(named("caption.txt", b"a")) == "a"


def test_other_contents_are_bytes() -> None:
    for extension in ("bin", "tar", "csv", "json.bak"):
        assert decode(named(extension, b"\0\1")) == b"\0\1"
    view = DatapointView(7, f"{KEY}.bin", memoryview(b"abc"))
    assert decode(view) == b"abc"
    assert type(decode(view)) is bytes


def test_compressed_contents_are_decoded_after_decompression() -> None:
    plain = b'{"a": 1}'
    assert decode(named("json.gz", gzip.compress(plain))) == {"a": 1}
    assert decode(named("json.gz", gzip.compress(plain[:3]) + gzip.compress(plain[3:]))) == {"a": 1}
    compressed = zstandard.compress(plain)
    assert decode(named("json.zst", compressed)) == {"a": 1}
    assert decode(named("json.zst", zstandard.compress(plain[:3]) + zstandard.compress(plain[3:]))) == {"a": 1}
    assert decode(named("json.gz.zst", zstandard.compress(gzip.compress(plain)))) == {"a": 1}
    assert decode(named("gz", gzip.compress(plain))) == plain
    assert decode(named("bin.zst", compressed)) == plain


def test_arrays() -> None:
    assert np.array_equal(decode(named("npy", array(PIXELS))), PIXELS)
    both = decode(named("npz", arrays(a=PIXELS, b=np.arange(3))))
    assert sorted(both) == ["a", "b"]
    assert np.array_equal(both["a"], PIXELS)


@pytest.mark.parametrize(
    ("mode", "kind", "channels"),
    [("RGB", "png", 3), ("L", "png", 1), ("RGBA", "png", 4), ("LA", "png", 2), ("P", "png", 3), ("1", "png", 1),
     ("RGB", "jpg", 3), ("L", "jpeg", 1), ("CMYK", "jpg", 3), ("RGB", "webp", 3), ("RGBA", "webp", 4)],
)  # fmt: skip
def test_images_have_a_row_a_column_and_a_channel(mode: str, kind: str, channels: int) -> None:
    content = image(mode, {"jpg": "jpeg"}.get(kind, kind))
    pixels = decode(named(kind, content))
    assert pixels.shape == (7, 5, channels)
    assert pixels.dtype == np.uint8
    pixels[0] = 1  # it is the caller's own


def test_a_png_has_its_pixels() -> None:
    assert np.array_equal(decode(named("png", image("RGB", "png"))), PIXELS)


def test_an_image_of_another_kind_than_its_extension_is_refused() -> None:
    with pytest.raises(DecodeFailed):
        decode(named("jpg", image("RGB", "png")))


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_sound(kind: str) -> None:
    audio = decode(named(kind, sound(kind.upper())))
    assert audio.rate == 16_000
    assert audio.samples.dtype == np.float32
    assert np.allclose(audio.samples, [[0.5, -0.5], [0.25, 0.0]], atol=1e-4)


def test_no_pickle_is_loaded_unless_it_is_allowed() -> None:
    evil = pickle.dumps(Evil())
    assert decode(named("pkl", evil)) == evil
    assert decode(named("pth", evil)) == evil
    objects = np.empty(1, object)
    objects[0] = Evil()
    for content, extension in (
        (array(objects, allow_pickle=True), "npy"),
        (arrays(a=objects), "npz"),
        (evil, "npy"),
        (evil, "npz"),
    ):
        with pytest.raises(DecodeFailed):
            decode(named(extension, content))
    assert decode(named("pkl", pickle.dumps({"a": 1})), allow_pickle=True) == {"a": 1}
    allowed = np.array([{"a": 1}], object)
    assert decode(named("npy", array(allowed, allow_pickle=True)), allow_pickle=True)[0] == {"a": 1}
    assert decode(named("npz", arrays(a=allowed)), allow_pickle=True)["a"][0] == {"a": 1}


def test_contents_that_grow_beyond_the_limit_are_refused() -> None:
    large = bytes(200_000)
    for extension, content in (
        ("bin.gz", gzip.compress(large)),
        ("bin.zst", zstandard.compress(large)),
        ("npz", arrays(a=np.zeros(200_000, np.uint8))),
        ("bin.gz.gz", gzip.compress(gzip.compress(large))),
        ("png", image("RGB", "png")),
        ("wav", sound("WAV")),
    ):
        limit = 10 if extension in {"png", "wav"} else 199_999
        with pytest.raises(DecodeFailed, match=f"more than {limit} bytes; raise `limit`"):
            decode(named(extension, content), limit=limit)
        decode(named(extension, content), limit=300_000)


@pytest.mark.parametrize(
    ("extension", "content"),
    [
        ("json", b"{"),
        ("json", b"\xff"),
        ("txt", b"\xff"),
        ("npy", b""),
        ("npy", array(PIXELS)[:-1]),
        (
            "npy",
            b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999,), }",
        ),
        ("npz", b"PK"),
        ("npz", arrays(a=PIXELS)[:-5]),
        ("png", image("RGB", "png")[:60]),
        ("jpg", b""),
        ("wav", b"RIFF"),
        ("flac", sound("FLAC")[:10]),
        ("json.gz", gzip.compress(b"{}")[:-3]),
        ("json.gz", b"{}"),
        ("json.zst", b"{}"),
    ],
)
def test_damaged_contents_are_an_error_that_names_the_datapoint(extension: str, content: bytes) -> None:
    with pytest.raises(DecodeFailed, match=f"datapoint {KEY}.{extension} cannot be decoded: .") as raised:
        decode(named(extension, content))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("module", "extension", "advice"),
    [
        ("PIL.Image", "jpg", r"decoding .jpeg needs Pillow; run: pip install 'datas3t\[training\]'"),
        ("soundfile", "wav", r"needs soundfile; run: pip install 'datas3t\[training\]'"),
        ("zstandard", "json.zst", r"needs zstandard; run: pip install 'datas3t\[zstd\]'"),
        ("torch", "pth", "needs torch; run: pip install torch"),
    ],
)
def test_a_package_that_is_missing_is_named(
    module: str, extension: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PackageMissing, match=advice):
        decode(named(extension, b"x"), allow_pickle=True)
