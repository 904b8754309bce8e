"""Contents are compared with their checksums: damage is healed where it was on the way, and is an error otherwise."""

import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest

from datas3t.client import ChecksumMismatch, Client, Datas3tError
from datas3t.client._reading import index_files, scanning
from datas3t.client.handle import Datas3t
from tests.client.archives import tar
from tests.client.reading.archive_host import ArchiveHost, archive_host, set_max_request

KEYS = range(100, 140)
CONTENTS = {key: b"%03d" % key * (key - 100) for key in KEYS}
VICTIM = 117

READS: dict[str, Callable[[Datas3t], list[bytes]]] = {
    "get": lambda handle: [handle.get(key) for key in KEYS],
    "get_many": lambda handle: handle.get_many(KEYS),
    "batches": lambda handle: list(chain.from_iterable(handle.batches([KEYS[:25], KEYS[25:]]))),
    "scan": lambda handle: [each.content for each in handle.scan()],
    "views": lambda handle: [bytes(each.content) for each in handle.scan(copy=False)],
}
every_read = pytest.mark.parametrize("read", READS.values(), ids=READS)
Read = Callable[[Datas3t], list[bytes]]


class Damaged:
    """An object in which a bit is wrong where it is served, for all or only for the first readers of the byte."""

    def __init__(self, raw: bytes, byte: int, times: int = 1 << 30) -> None:
        self._raw = raw
        self._byte = byte
        self.left = times

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, place: slice) -> bytes:
        start, stop, _ = place.indices(len(self._raw))
        piece = bytearray(self._raw[place])
        if start <= self._byte < stop and self.left:
            self.left -= 1
            piece[self._byte - start] ^= 1
        return bytes(piece)


def damage(host: ArchiveHost, kind: str, at: Callable[[bytes], int], times: int = 1 << 30) -> Damaged:
    """Damage the host's only object of this kind at the byte that `at` finds."""
    (path,) = (path for path in host.objects if path.endswith(kind))
    raw = host.objects[path]
    host.objects[path] = found = Damaged(raw, at(raw), times)  # type: ignore[assignment]
    return found


def in_content(raw: bytes) -> int:
    """Return a byte of the victim's content."""
    return raw.index(CONTENTS[VICTIM]) + 5


def in_record(_: bytes) -> int:
    """Return a byte of the victim's checksum."""
    return (VICTIM - KEYS[0]) * 4 + 2


def gets(host: ArchiveHost, kind: str) -> int:
    """Return how many requests were made for objects of this kind."""
    return sum(seen.path.endswith(kind) for seen in host.server.requests)


@pytest.fixture(params=["together", "windows", "large"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Read objects whole and contents together, windows of checksums, or large contents in parts."""
    if request.param == "windows":
        monkeypatch.setattr(index_files, "_SMALL", 0)
        monkeypatch.setattr(index_files, "_WINDOW_SIZE", 32)
    if request.param == "large":
        with monkeypatch.context() as patch:
            set_max_request(patch, 64)
            patch.setattr(scanning, "_REQUEST_SIZE", 64)
            yield
        return
    yield


@every_read
@pytest.mark.usefixtures("sizes")
def test_intact_contents_are_read(host: ArchiveHost, read: Read) -> None:
    assert read(host.handle(tar(CONTENTS), checksums=True)) == list(CONTENTS.values())
    assert gets(host, ".crc32c")


@every_read
@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize(("kind", "at"), [(".tar", in_content), (".crc32c", in_record)])
def test_lasting_damage_is_an_error_that_names_the_objects(
    host: ArchiveHost, read: Read, kind: str, at: Callable[[bytes], int]
) -> None:
    handle = host.handle(tar(CONTENTS), checksums=True)
    damage(host, kind, at)
    for _ in range(2):
        with pytest.raises(ChecksumMismatch) as raised:
            read(handle)
        error = raised.value
        assert (error.reason, error.datas3t, error.key) == ("CHECKSUM_MISMATCH", "served", VICTIM)
        assert error.datarange == (KEYS[0], KEYS[-1])
        assert error.object.endswith(".tar")
        assert error.metadata["checksums_object_key"].endswith(".crc32c")
        for part in (error.object, error.metadata["checksums_object_key"], str(VICTIM), "100 to 139", "'served'"):
            assert part in str(error)
        assert "\n" not in str(error)
        assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


@every_read
@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize(("kind", "at"), [(".tar", in_content), (".crc32c", in_record)])
def test_damage_on_the_way_is_fetched_again(
    host: ArchiveHost, read: Read, kind: str, at: Callable[[bytes], int]
) -> None:
    handle = host.handle(tar(CONTENTS), checksums=True)
    damaged = damage(host, kind, at, times=1)
    assert read(handle) == list(CONTENTS.values())
    assert damaged.left == 0
    assert read(host.reopen(handle)) == list(CONTENTS.values())


@every_read
def test_cached_checksums_that_were_damaged_are_fetched_again(host: ArchiveHost, read: Read) -> None:
    handle = host.handle(tar(CONTENTS), checksums=True)
    handle.get(VICTIM)
    (file,) = (file for file in host.client.cache_dir.iterdir() if file.stat().st_size == 4 * len(KEYS))
    correct = file.read_bytes()
    for wrong in (bytes(len(correct)), correct[:-1], correct[:68] + b"wron" + correct[72:]):
        file.write_bytes(wrong)
        assert read(host.reopen(handle)) == list(CONTENTS.values())
        assert file.read_bytes() == correct


@every_read
@pytest.mark.parametrize("checked", [(), (0,), (1,), (0, 2)])
def test_dataranges_without_checksums_are_read_unchecked(host: ArchiveHost, read: Read, checked: Sequence[int]) -> None:
    spans = [KEYS[:10], KEYS[10:25], KEYS[25:]]
    archives = [tar({key: CONTENTS[key] for key in span}) for span in spans]
    handle = host.handle(*archives, checksums=checked)
    assert read(handle) == list(CONTENTS.values())
    assert gets(host, ".crc32c") == len(checked)

    (path,) = (path for path, raw in host.objects.items() if path.endswith(".tar") and CONTENTS[VICTIM] in raw)
    raw = host.objects[path]
    host.objects[path] = Damaged(raw, in_content(raw))  # type: ignore[assignment]
    if 1 in checked:
        with pytest.raises(ChecksumMismatch):
            read(handle)
    else:
        found = dict(zip(KEYS, read(handle), strict=True))
        assert {key for key in KEYS if found[key] != CONTENTS[key]} == {VICTIM}


@every_read
def test_a_client_that_does_not_verify_fetches_no_checksums(tmp_path: Path, read: Read) -> None:
    with archive_host(tmp_path / "cache") as host, Client("http://127.0.0.1:9", verify=False) as client:
        host.client = client
        handle = host.handle(tar(CONTENTS), checksums=True)
        damage(host, ".tar", in_content)
        assert read(handle)[VICTIM - KEYS[0]] != CONTENTS[VICTIM]
        assert gets(host, ".crc32c") == 0
        assert not pickle.loads(pickle.dumps(handle))._session.verify


@every_read
def test_checksums_that_are_gone_are_an_error_that_names_them(
    host: ArchiveHost, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.handle(tar(CONTENTS), checksums=True)
    monkeypatch.setattr(handle._reader.catalogues, "is_gone", lambda *_: False)  # there is no server to ask
    (path,) = (path for path in host.objects if path.endswith(".crc32c"))
    del host.objects[path]
    with pytest.raises(Datas3tError, match="crc32c"):
        read(handle)


def test_a_scan_goes_on_with_views_after_damage_on_the_way(host: ArchiveHost) -> None:
    handle = host.handle(tar(CONTENTS), checksums=True)
    damage(host, ".tar", in_content, times=1)
    views = handle.scan(copy=False)
    assert {each.key: bytes(each.content) for each in views} == CONTENTS


def _read_in_child(handle: Datas3t, found: "multiprocessing.SimpleQueue[object]") -> None:
    try:
        found.put(handle.get_many(KEYS))
    except Datas3tError as error:
        found.put(error)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_process_verifies_and_its_error_is_passed_on(host: ArchiveHost) -> None:
    handle = host.handle(tar(CONTENTS), checksums=True)
    assert handle.get_many(KEYS) == list(CONTENTS.values())
    before, context = gets(host, ".crc32c"), multiprocessing.get_context("fork")
    for times, expected in ((1, list(CONTENTS.values())), (1 << 30, None)):
        damage(host, ".tar", lambda raw: raw[:].index(CONTENTS[VICTIM]) + 5, times)
        found: multiprocessing.SimpleQueue[object] = context.SimpleQueue()
        child = context.Process(target=_read_in_child, args=(handle, found))
        child.start()
        result = found.get()
        child.join()
        if expected is not None:
            assert result == expected
        else:
            assert isinstance(result, ChecksumMismatch)
            assert result.key == VICTIM
    assert gets(host, ".crc32c") == before + 2, "once for each content that differed"
