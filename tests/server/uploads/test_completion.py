"""Completions of uploads that are not as announced: the message names entry and rule, and no object is left."""

import os
from dataclasses import replace

import pytest

from datas3t import v1
from datas3t.server import dataranges, uploads
from datas3t.server.errors import Failure
from datas3t.server.objects import checks
from tests.support.uploads import Archive, Site, archive, large_archive, put, put_data


def assert_refused(site: Site, upload_id: int, etags: list[str], message: str) -> None:
    """Check that the completion fails with this message, and that nothing is left of the upload."""
    with pytest.raises(Failure, match=message) as caught:
        uploads.complete(site.resources, upload_id, etags)
    assert caught.value.reason == v1.ERROR_REASON_UPLOAD_INVALID
    assert caught.value.metadata["upload_id"] == str(upload_id)
    assert "\n" not in caught.value.message
    site.sweep()
    assert site.objects() == []
    assert site.multiparts() == []
    assert dataranges.page(site.resources, site.datas3t, 0, "") == ([], "")


def assert_other_bytes_refused(site: Site, announced: Archive, data: bytes, index: bytes, message: str) -> None:
    """Upload other bytes than were announced, and check that the completion is refused."""
    started = site.start(announced)
    put(started.index_put_url, index)
    assert_refused(site, started.upload.id, put_data(started, data), message)


def medium_archive(first: int = 1, count: int = 600) -> Archive:
    """Return an archive that is too large to be read whole at completion."""
    return archive(first, *(os.urandom(8192) for _ in range(count)))


SMALL = archive(5, b"one", b"two" * 400, b"", b"four")


def test_a_missing_archive_is_refused(site: Site) -> None:
    started = site.start(SMALL)
    put(started.index_put_url, SMALL.index)
    assert_refused(site, started.upload.id, [], "the archive was never uploaded")


def test_a_missing_index_is_refused(site: Site) -> None:
    started = site.start(SMALL)
    put_data(started, SMALL.data)
    assert_refused(site, started.upload.id, [], "the index was never uploaded")


def test_the_message_about_an_archive_of_another_size_has_both_sizes(site: Site) -> None:
    message = f"the archive in the bucket has {len(SMALL.data) + 512} bytes instead of {len(SMALL.data)}"
    assert_other_bytes_refused(site, SMALL, SMALL.data + bytes(512), SMALL.index, message)


def test_the_message_about_an_index_of_another_size_has_both_sizes(site: Site) -> None:
    assert_other_bytes_refused(
        site, SMALL, SMALL.data, SMALL.index[:-16], "the index in the bucket has 48 bytes instead of 64"
    )


def test_a_number_that_no_index_can_have_takes_no_memory(site: Site) -> None:
    announced = replace(SMALL, count=10**12)
    message = "the index in the bucket has 64 bytes instead of 16000000000000"
    assert_other_bytes_refused(site, announced, SMALL.data, SMALL.index, message)


def test_an_index_of_zeros_is_refused(site: Site) -> None:
    assert_other_bytes_refused(site, SMALL, SMALL.data, bytes(64), "0{19}5|datapoint 5|entry")


@pytest.mark.parametrize("byte", [7, 9, 15, 16 + 6, 48 + 9, 63])
def test_an_index_with_one_wrong_byte_is_refused(site: Site, byte: int) -> None:
    wrong = bytearray(SMALL.index)
    wrong[byte] ^= 3
    assert_other_bytes_refused(site, SMALL, SMALL.data, bytes(wrong), str(5 + byte // 16))


def test_the_index_of_another_archive_is_refused(site: Site) -> None:
    assert_other_bytes_refused(
        site, SMALL, SMALL.data, archive(5, b"1", b"2", b"3", b"4").index, "wrong about datapoint 5"
    )


def test_the_index_of_another_large_archive_is_refused(site: Site) -> None:
    medium = medium_archive()
    other = archive(1, bytes(8193), *([bytes(8192)] * 599))
    assert_other_bytes_refused(site, medium, medium.data, other.index, "0{19}[0-9]|datapoint|entr")


@pytest.mark.parametrize("name", ["00000000000000000007.bin", "photo.jpg", "./00000000000000000006.bin", f"{6:020d}"])
def test_a_wrong_entry_name_is_refused(site: Site, name: str) -> None:
    names = [f"{5:020d}.bin", name, f"{7:020d}.bin"]
    wrong = archive(5, b"one", b"two", b"three", names=names)
    assert_other_bytes_refused(site, wrong, wrong.data, wrong.index, f"{name}.* (follows key 5|is not named)")


def test_another_first_key_is_refused(site: Site) -> None:
    wrong = archive(6, b"one", b"two")
    assert_other_bytes_refused(site, replace(wrong, first=5), wrong.data, wrong.index, f"{6:020d}")


def test_another_first_key_in_a_large_archive_is_refused(site: Site) -> None:
    wrong = medium_archive(first=2)
    assert_other_bytes_refused(site, replace(wrong, first=1), wrong.data, wrong.index, f"{2:020d}")


def test_garbage_after_the_end_marker_is_refused(site: Site) -> None:
    data = bytearray(SMALL.data)
    data[-1] = 1
    assert_other_bytes_refused(site, SMALL, bytes(data), SMALL.index, "end marker|end of the archive|behind")


def test_garbage_after_the_end_marker_of_a_large_archive_is_refused(site: Site) -> None:
    medium = medium_archive()
    assert_other_bytes_refused(
        site, medium, medium.data[:-1] + b"\x01", medium.index, "end marker|end of the archive|behind"
    )


def test_an_archive_without_end_marker_is_refused(site: Site) -> None:
    end = SMALL.data.rstrip(b"\0")[-4:]
    cut = replace(SMALL, data=SMALL.data[: -(-(SMALL.data.index(end) + 4) // 512) * 512])
    assert_other_bytes_refused(site, cut, cut.data, cut.index, "without an end marker")


def test_a_damaged_header_of_a_large_archive_is_refused(site: Site) -> None:
    medium = medium_archive()
    data = bytearray(medium.data)
    data[-10240 - 512 :] = data[-10240 - 512 :]
    data[0] ^= 1
    assert_other_bytes_refused(site, medium, bytes(data), medium.index, "checksum")


def test_random_bytes_instead_of_an_archive_are_refused(site: Site) -> None:
    assert_other_bytes_refused(site, SMALL, os.urandom(len(SMALL.data)), SMALL.index, "header|checksum|entry|archive")


def test_a_compressed_archive_is_refused(site: Site) -> None:
    compressed = replace(SMALL, data=b"\x1f\x8b\x08" + SMALL.data[3:])
    assert_other_bytes_refused(site, compressed, compressed.data, SMALL.index, "compressed")


def test_a_missing_part_is_refused(site: Site) -> None:
    large = large_archive(1)
    started = site.start(large)
    put(started.index_put_url, large.index)
    etag = put(started.part_urls[0], large.data[: started.upload.part_size])
    assert_refused(site, started.upload.id, [etag, etag], "part 2 of 2 was never uploaded")


def test_too_few_etags_are_refused(site: Site) -> None:
    upload_id, etags = site.send(large_archive(1))
    assert_refused(site, upload_id, etags[:1], "the archive has 2 parts, but 1 ETags were given")


def test_a_wrong_etag_is_refused(site: Site) -> None:
    upload_id, etags = site.send(large_archive(1))
    assert_refused(
        site, upload_id, [etags[0], '"0123456789abcdef"'], "part 2 has the ETag .* but '0123456789abcdef' was given"
    )


def test_parts_in_the_wrong_order_are_refused(site: Site) -> None:
    upload_id, etags = site.send(large_archive(1))
    assert_refused(site, upload_id, etags[::-1], "part 1 has the ETag")


def test_a_part_of_another_size_is_refused(site: Site) -> None:
    large = large_archive(1)
    started = site.start(large)
    put(started.index_put_url, large.index)
    etags = [put(started.part_urls[0], large.data[:100]), put(started.part_urls[1], large.data[:100])]
    assert_refused(site, started.upload.id, etags, "part 1 has 100 bytes instead of 20971520")


def test_an_aborted_multipart_upload_is_refused(site: Site) -> None:
    upload_id, etags = site.send(large_archive(1))
    (s3_upload_id,) = site.multiparts()
    site.s3.abort_multipart_upload(Bucket=site.bucket, Key=site.key(upload_id), UploadId=s3_upload_id)
    assert_refused(site, upload_id, etags, "the multipart upload no longer exists")


def test_wrong_entries_that_an_evenly_spaced_sample_would_miss_are_found(site: Site) -> None:
    announced = medium_archive()
    data = bytearray(announced.data)
    looked_at = {599 * number // 31 for number in range(32)}
    for number in set(range(600)) - looked_at:
        data[number * (512 + 8192) + 148] ^= 1
    assert_other_bytes_refused(site, announced, bytes(data), announced.index, "has a wrong checksum")


def test_a_sample_has_both_ends_and_cannot_be_foreseen() -> None:
    assert checks.sample(5, 32) == [0, 1, 2, 3, 4]
    samples = [checks.sample(1000, 32) for _ in range(200)]
    for each in samples:
        assert each == sorted(set(each))
        assert (each[0], each[-1], len(each)) == (0, 999, 32)
    assert len({number for each in samples for number in each}) > 900
