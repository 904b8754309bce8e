"""Names, index records, parts and joins, compared with a simple implementation of each."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t.archive import ArchiveError, IndexFormatError, index, join, names, parts, tar
from datas3t.archive.index import BLOCK, Entry
from tests.support.tars import archive

KEYS = st.integers(0, names.MAX_KEY)
ENTRIES = st.builds(
    Entry, st.integers(0, 2**60), st.integers(1, index.MAX_HEADER_BLOCKS), st.integers(0, index.MAX_SIZE)
)
SHAPES = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5000)), min_size=1, max_size=50)


def consecutive(shapes: list[tuple[int, int]], start: int = 0) -> list[Entry]:
    """Return entries of these header blocks and sizes, one after another."""
    entries, position = [], start
    for blocks, size in shapes:
        entries.append(Entry(position, blocks, size))
        position = entries[-1].stop
    return entries


@given(st.from_regex(r"[A-Za-z0-9_-]{1,255}", fullmatch=True), KEYS, KEYS, st.integers(1, 10**12))
def test_object_keys_are_parsed_into_what_they_were_made_of(name: str, one: int, other: int, counter: int) -> None:
    first, last = sorted((one, other))
    key = names.archive_key(name, first, last, counter)
    assert names.parse(key) == (name, first, last, counter, "tar")
    assert names.parse(names.index_key(key)) == (name, first, last, counter, "index")
    assert key.startswith(names.prefix(name))


@pytest.mark.parametrize(
    "key",
    [
        "datas3t/a/dataranges/00000000000000000002-00000000000000000001-000000000001.tar",
        "datas3t/a/dataranges/00000000000000000001-00000000000000000001-000000000000.tar",
        "datas3t/a/dataranges/00000000000000000001-09223372036854775808-000000000001.tar",
        "datas3t/a/dataranges/1-2-3.tar",
        "datas3t/a b/dataranges/00000000000000000001-00000000000000000001-000000000001.tar",
        "datas3t/a/dataranges/00000000000000000001-00000000000000000001-000000000001.tar.gz",
        "datas3t/a/dataranges/\u0660000000000000000001-00000000000000000001-000000000001.tar",
        "x/datas3t/a/dataranges/00000000000000000001-00000000000000000001-000000000001.tar",
        "datas3t/a/dataranges/00000000000000000001-00000000000000000001-0000000000001.tar",
    ],
)
def test_similar_keys_are_not_object_keys(key: str) -> None:
    assert names.parse(key) is None


@given(KEYS, st.text(min_size=1).filter(lambda text: "/" not in text and "\0" not in text))
def test_the_key_is_parsed_from_an_entry_name(key: int, extension: str) -> None:
    encoded = names.entry_name(key, extension).encode("utf-8", "surrogatepass")
    assert names.parse_entry_name(encoded)[0] == key


@given(st.lists(ENTRIES, max_size=20))
def test_decoded_records_are_what_was_encoded(entries: list[Entry]) -> None:
    raw = index.encode(entries)
    assert len(raw) == 16 * len(entries)
    assert index.decode(raw) == entries
    assert [index.entry_at(raw, number) for number in range(len(entries))] == entries


def test_a_record_has_the_documented_bytes() -> None:
    assert index.encode([Entry(0x0102030405060708, 3, 0x0A0B0C0D0E0F)]).hex() == "01020304050607080003" + "0a0b0c0d0e0f"


@pytest.mark.parametrize("entry", [Entry(0, 1, 2**48), Entry(0, 2_057, 0), Entry(0, 0, 1), Entry(0, 1, -1)])
def test_an_entry_that_does_not_fit_a_record_is_refused(entry: Entry) -> None:
    with pytest.raises(IndexFormatError, match="the limits are 2056 blocks"):
        index.encode([entry])


@given(SHAPES, st.integers(0, 3))
def test_an_index_of_consecutive_entries_is_accepted(shapes: list[tuple[int, int]], extra: int) -> None:
    entries = consecutive(shapes)
    assert index.check(index.encode(entries), entries[-1].stop + (2 + extra) * BLOCK) == entries[-1].stop


@given(SHAPES, st.data())
def test_the_first_wrong_position_is_named(shapes: list[tuple[int, int]], data: st.DataObject) -> None:
    entries = consecutive(shapes)
    wrong = data.draw(st.integers(0, len(entries) - 1))
    entries[wrong] = entries[wrong]._replace(position=entries[wrong].position + BLOCK)
    with pytest.raises(IndexFormatError, match=f"^index entry {wrong} starts at"):
        index.check(index.encode(entries), 2**40)


def test_a_long_index_is_checked_with_numpy() -> None:
    entries = consecutive([(1 + number % 3, number % 700) for number in range(60_000)])
    size = entries[-1].stop + 1024
    assert index.check(index.encode(entries), size) == entries[-1].stop
    entries[55_555] = entries[55_555]._replace(position=512)
    with pytest.raises(IndexFormatError, match="index entry 55555 starts at byte 512"):
        index.check(index.encode(entries), size)
    entries[7] = entries[7]._replace(header_blocks=1)
    with pytest.raises(IndexFormatError, match="index entry 8 starts at"):
        index.check(index.encode(entries), size)


@pytest.mark.parametrize("count", [3, 60_000])
def test_an_index_entry_with_more_header_blocks_than_allowed_is_refused(count: int) -> None:
    records = [index.RECORD.pack(512 * number, 1, 0, 0) for number in range(count - 1)]
    raw = b"".join(records) + index.RECORD.pack(512 * (count - 1), 65_535, 0, 0)
    with pytest.raises(IndexFormatError, match=f"entry {count - 1} has 65535 header blocks, but an entry has at most"):
        index.check(raw, 2**40)


@pytest.mark.parametrize(
    ("size", "message"),
    [(2048, "1024 zero bytes must follow them"), (1500, "not a multiple of 512")],
)
def test_an_archive_without_room_for_its_end_marker_is_refused(size: int, message: str) -> None:
    with pytest.raises(IndexFormatError, match=message):
        index.check(index.encode([Entry(0, 1, 600)]), size)


def test_torn_and_empty_indices_are_refused() -> None:
    with pytest.raises(IndexFormatError, match="torn"):
        index.decode(bytes(17))
    with pytest.raises(IndexFormatError, match="empty"):
        index.check(b"", 1024)


def overflowing_index(empty_first: int) -> bytes:
    """Return an index whose positions overflow 64 bits, so that its entries seem to end at byte 2,048.

    It begins with `empty_first` empty entries.
    """
    largest = Entry(0, 1, index.MAX_SIZE // BLOCK * BLOCK)
    count, left = divmod(2**64 + 2048 - BLOCK * empty_first, largest.stop)
    sizes = [0] * empty_first + [largest.size] * count + [left - BLOCK]
    out, position = bytearray(), 0
    for size in sizes:
        out += index.RECORD.pack(position % 2**64, 1, size >> 32, size & 0xFFFFFFFF)
        position += BLOCK + size
    assert position == 2**64 + 2048
    return bytes(out)


def test_an_index_whose_positions_overflow_is_refused() -> None:
    with pytest.raises(IndexFormatError, match="beyond the largest possible archive"):
        index.check(overflowing_index(empty_first=3), 20_480)


def test_a_piece_of_an_index_that_starts_above_64_bits_is_refused() -> None:
    many = overflowing_index(empty_first=0)
    with pytest.raises(IndexFormatError, match="beyond the largest possible archive"):
        index.check_records(many, 2**64, 7)


@given(st.integers(1, parts.MAX_OBJECT))
def test_parts_cover_an_archive_within_the_limits_of_s3(size: int) -> None:
    part, count = parts.part_size(size), parts.part_count(size)
    assert count <= parts.MAX_PARTS
    assert part % (20 << 20) == 0
    assert part == 20 << 20 or (part // 2) * parts.MAX_PARTS < size, "it is doubled only as often as needed"
    assert (count - 1) * part < size <= count * part


def test_archives_from_20_mib_are_sent_in_parts() -> None:
    assert parts.is_direct(20_971_519)
    assert not parts.is_direct(20_971_520)


SIZES = st.lists(
    st.one_of(st.integers(1, 100), st.integers(1, 14 << 11), st.integers(10 << 11, 40 << 21)).map(lambda n: n * BLOCK),
    min_size=1,
    max_size=30,
)


@given(SIZES)
def test_a_plan_covers_the_joined_entries_within_the_limits_of_s3(sizes: list[int]) -> None:
    plan = join.plan(sizes)
    pieces = [piece for part in plan for piece in part.pieces]
    at = dict.fromkeys(range(len(sizes)), 0)
    assert [piece.source for piece in pieces] == sorted(piece.source for piece in pieces)
    for piece in pieces:
        assert piece.start == at[piece.source]
        assert piece.start < piece.stop
        at[piece.source] = piece.stop
    assert [at[source] for source in range(len(sizes))] == sizes
    assert [part.zeros for part in plan] == [0] * (len(plan) - 1) + [1024]
    assert sum(part.size for part in plan) == join.joined_size(sizes)
    for part in plan[:-1]:
        assert parts.MIN_PART <= part.size <= parts.MAX_PART
    for part in plan:
        assert not part.copied or len(part.pieces) == 1
    assert not plan[-1].copied


@given(st.lists(st.integers(5 << 11, 60 << 21).map(lambda n: n * BLOCK), min_size=1, max_size=10))
def test_the_client_uploads_only_the_end_marker_if_all_sources_are_large(sizes: list[int]) -> None:
    uploaded = sum(part.size for part in join.plan(sizes) if not part.copied)
    assert uploaded == 1024


@given(SIZES)
def test_an_equal_plan_covers_the_joined_entries_with_parts_of_one_size(sizes: list[int]) -> None:
    size = join.equal_part_size(sizes)
    plan = join.equal_plan(sizes, size)
    assert [part.size for part in plan[:-1]] == [size] * (len(plan) - 1)
    assert 0 < plan[-1].size <= size
    assert sum(part.zeros for part in plan) == 1024
    at = dict.fromkeys(range(len(sizes)), 0)
    for piece in (piece for part in plan for piece in part.pieces):
        assert piece.start == at[piece.source]
        at[piece.source] = piece.stop
    assert [at[source] for source in range(len(sizes))] == sizes
    for part in plan:
        assert part.copied == (part.size == size and len(part.pieces) == 1 and not part.zeros)


@pytest.mark.parametrize("rest", [0, 512, 1024, (20 << 20) - 512, (20 << 20) - 1024])
def test_the_end_marker_of_an_equal_plan_may_be_cut(rest: int) -> None:
    plan = join.equal_plan([(20 << 20) + rest], 20 << 20)
    assert [part.size for part in plan[:-1]] == [20 << 20] * (len(plan) - 1)
    assert sum(part.size for part in plan) == (20 << 20) + rest + 1024
    assert plan[-1].size > 0


@pytest.mark.parametrize("count", [2, 5, 20, 100, 500])
def test_of_sources_of_1_gib_s3_copies_nine_of_ten_bytes_even_in_equal_parts(count: int) -> None:
    sizes = [(1 << 30) + 512 * 7 * number for number in range(count)]
    plan = join.equal_plan(sizes, join.equal_part_size(sizes))
    assert len(plan) <= parts.MAX_PARTS
    assert sum(part.size for part in plan if part.copied) >= 0.9 * sum(sizes)


def test_parts_have_at_most_4_gib() -> None:
    plan = join.plan([40 << 30])
    assert max(part.size for part in plan) == 4 << 30
    assert len(plan) == 11


def test_parts_that_the_client_uploads_are_larger_where_there_would_be_more_than_1_000() -> None:
    sizes = [4 << 20] * 10_000
    assert len(join.plan(sizes[:4_000])) <= 1_000
    assert len(join.plan(sizes)) <= 1_000


@pytest.mark.parametrize("sizes", [[512], [1 << 20], [4 << 20], [6 << 20], [(5 << 20) + 512, 512], [3 << 20, 30 << 20]])
def test_the_work_of_a_plan_grows_with_the_number_of_sources(sizes: list[int]) -> None:
    def steps(count: int) -> int:
        many = sizes * (count // len(sizes))
        return calls_of(
            lambda: (
                join.plan(many),
                join.equal_plan(many, 40 << 20),
                join.plan_uploads(many),
                join.equal_plan_uploads(many),
            )
        )

    assert steps(2_000) < 2.5 * steps(1_000)


@given(SIZES)
def test_the_bytes_that_a_plan_uploads_are_known_without_the_plan(sizes: list[int]) -> None:
    assert join.plan_uploads(sizes) == sum(part.size for part in join.plan(sizes) if not part.copied)
    equal = join.equal_plan(sizes, join.equal_part_size(sizes))
    assert join.equal_plan_uploads(sizes) == sum(part.size for part in equal if not part.copied)


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="join fewer"):
        join.equal_plan([512] * 100, 1)
    with pytest.raises(ValueError, match="join fewer"):
        join.plan([5 << 20] * 10_001)


@given(SHAPES, SHAPES)
def test_joined_indices_are_the_index_of_the_joined_archive(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    first, second = consecutive(one), consecutive(other)
    joined = index.encode(first) + join.shifted(index.encode(second), first[-1].stop)
    assert index.decode(joined) == consecutive(one + other)


def test_a_long_index_is_shifted_with_numpy() -> None:
    entries = consecutive([(1, 5)] * 5000)
    assert index.decode(join.shifted(index.encode(entries), 512)) == consecutive([(1, 5)] * 5000, 512)


def test_archives_joined_without_their_end_markers_are_an_archive() -> None:
    one, other = archive(1, [b"a", b"bb"]), archive(3, [b"ccc"], dialect="pax")
    whole = one[: entries_end(one)] + other[: entries_end(other)] + bytes(1024)
    assert tar.scan(lambda start, stop: whole[start:stop], len(whole)).count == 3


def entries_end(raw: bytes) -> int:
    """Return the byte at which an archive's end marker starts."""
    return tar.scan(lambda start, stop: raw[start:stop], len(raw)).entries_end


@given(st.binary(min_size=1, max_size=3000))
def test_random_bytes_are_refused_with_a_one_line_message(raw: bytes) -> None:
    with pytest.raises(ArchiveError) as caught:
        tar.scan(lambda start, stop: raw[start:stop], len(raw))
    assert "\n" not in str(caught.value)


@given(st.data())
def test_a_changed_header_byte_is_found(data: st.DataObject) -> None:
    raw = bytearray(archive(1, [b"abc", b"", b"x" * 600], dialect=data.draw(st.sampled_from(["ustar", "gnu"]))))
    before = tar.scan(lambda start, stop: bytes(raw[start:stop]), len(raw))
    entry = index.entry_at(before.index, data.draw(st.integers(0, 2)))
    at = entry.position + data.draw(st.integers(0, 511))
    raw[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))
    try:
        after = tar.scan(lambda start, stop: bytes(raw[start:stop]), len(raw))
    except ArchiveError:
        return
    # The only accepted changes are other ways to write the same checksum.
    assert after == before
    assert 148 <= at - entry.position < 156


def calls_of(function: Callable[[], object]) -> int:
    """Return how many functions, and steps of generators, a function takes: the same on every machine."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count
