"""Objects that have another size than was announced, on a store that refuses a range beyond an object's end."""

from collections.abc import Iterator

import pytest

from datas3t.server.objects.checks import InvalidUploadError, StoredObject
from datas3t.server.s3.bucket import Bucket, Buckets, Location
from tests.support.stores import nanio


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with nanio(tmp_path_factory.mktemp("store")) as store:
        with store.client() as s3:
            s3.create_bucket(Bucket="sizes")
        yield Buckets().at(Location(store.endpoint, "sizes", "us-east-1", store.access_key, store.secret_key))


@pytest.mark.parametrize("size", [0, 999, 1001])
def test_the_message_has_both_sizes(bucket: Bucket, size: int) -> None:
    bucket.put("archive", bytes(size))
    with pytest.raises(InvalidUploadError, match=f"has {size} bytes instead of 1000"):
        StoredObject(bucket, "archive", "archive", 1000).read(0, 1000)
