"""Deletions whose response was lost: the retry finds nothing to delete, and the call succeeds."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from datas3t.client import Client, Datarange, FailedPrecondition, Interrupted, NotFound, Unavailable
from datas3t.client._calls import dataranges, rpc
from tests.client.archives import sample
from tests.client.sites import Site
from tests.support.stack import wait_until


class LosesResponses(grpc.GenericRpcHandler):
    """A proxy of calls with one response. Of a method in `losing`, it loses the next response, or with `always` all.

    Responses to the first `passing` calls are never lost.
    """

    def __init__(self, target: str) -> None:
        self.losing: set[str] = set()
        self.always = False
        self.passing = 0
        self.calls: list[str] = []
        self._channel = grpc.insecure_channel(target)

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]

        def forward(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls.append(name)
            call: Any = self._channel.unary_unary(details.method, None, None)
            try:
                response: bytes = call(request)
            except grpc.RpcError as error:
                status = rpc_status.from_call(error)  # type: ignore[arg-type]
                assert status is not None
                context.abort_with_status(rpc_status.to_status(status))
            if name in self.losing and self.calls.count(name) > self.passing:
                if not self.always:
                    self.losing.remove(name)
                context.abort(grpc.StatusCode.UNAVAILABLE, "the connection was lost")
            return response

        return grpc.unary_unary_rpc_method_handler(forward)

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def proxy(client: Client) -> Iterator[tuple[Client, LosesResponses]]:
    """Return a client whose calls pass through the proxy, and the proxy."""
    handler = LosesResponses(client.url.removeprefix("http://"))
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"http://127.0.0.1:{port}") as proxied:
        yield proxied, handler
    server.stop(None)
    handler.close()


def test_a_deletion_succeeds_if_only_its_response_was_lost(
    proxy: tuple[Client, LosesResponses], site: Site, tmp_path: Path
) -> None:
    proxied, handler = proxy
    for each in (sample(tmp_path / "1.tar", 1, 10), sample(tmp_path / "2.tar", 2, 10)):
        site.upload(each)
    handler.losing = {"DeleteDatarange", "DeleteDatas3t"}
    assert [each.first for each in proxied.delete_dataranges(site.name, 1, 2)] == [1, 2]
    assert site.client.list_dataranges(site.name) == []
    proxied.delete_datas3t(site.name)
    assert site.name not in [each.name for each in site.client.list_datas3ts()]
    assert handler.calls.count("DeleteDatas3t") == 2
    assert handler.calls.count("DeleteDatarange") == 3


def test_a_bucket_is_deleted_if_only_the_response_was_lost(
    proxy: tuple[Client, LosesResponses], bucket_settings: dict[str, str]
) -> None:
    proxied, handler = proxy
    proxied.add_bucket("lost", **bucket_settings)
    handler.losing = {"DeleteBucket"}
    proxied.delete_bucket("lost")
    assert handler.calls.count("DeleteBucket") == 2
    assert "lost" not in [each.name for each in proxied.list_buckets()]


def test_what_never_was_is_not_found_and_other_failures_of_a_retry_are_raised(
    proxy: tuple[Client, LosesResponses], site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied, handler = proxy
    for call in (proxied.delete_datas3t, proxied.delete_bucket):
        with pytest.raises(NotFound):
            call("nowhere")
    site.upload(sample(tmp_path / "1.tar", 1, 10))
    with pytest.raises(FailedPrecondition):
        proxied.delete_datas3t(site.name)
    handler.losing, handler.always = {"ListBuckets"}, True
    monkeypatch.setattr(rpc, "PATIENCE", 0.5)
    with pytest.raises(Unavailable):
        proxied.list_buckets()


def test_a_server_that_has_responded_is_waited_for_and_one_that_has_not_is_not(
    proxy: tuple[Client, LosesResponses], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "_ATTEMPTS", 2)
    proxied, handler = proxy
    handler.losing, handler.always = {"ListBuckets", "ListDatas3ts"}, True
    with pytest.raises(Unavailable):
        proxied.list_buckets()
    assert handler.calls.count("ListBuckets") == 2
    handler.losing.remove("ListBuckets")
    proxied.list_buckets()
    with rpc.impatient(), pytest.raises(Unavailable):
        proxied.list_datas3ts()
    assert handler.calls.count("ListDatas3ts") == 2
    handler.calls.clear()

    def restart() -> None:
        wait_until(lambda: handler.calls.count("ListDatas3ts") == 4, what="more attempts than at the start")
        handler.losing.clear()

    with ThreadPoolExecutor(1) as pool:
        restarted = pool.submit(restart)
        proxied.list_datas3ts()
        restarted.result()


def test_a_deletion_that_fails_names_what_was_deleted(
    proxy: tuple[Client, LosesResponses], site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "PATIENCE", 0.0)
    monkeypatch.setattr(rpc, "_ATTEMPTS", 1)
    proxied, handler = proxy
    for first in (1, 3, 5):
        site.upload(sample(tmp_path / f"{first}.tar", first, 10, 10))
    handler.losing, handler.always, handler.passing = {"DeleteDatarange"}, True, 1
    with pytest.raises(Unavailable, match="deleted before that: 1 of 3 dataranges, datapoints 1 to 2") as caught:
        proxied.delete_dataranges(site.name, 1, 6)
    assert {name: caught.value.metadata[name] for name in ("deleted", "deleted_first", "deleted_last")} == {
        "deleted": "1",
        "deleted_first": "1",
        "deleted_last": "2",
    }
    with pytest.raises(Unavailable, match="nothing was deleted before that"):
        proxied.delete_dataranges(site.name, 5, 6)


def test_a_deletion_that_is_interrupted_names_what_was_deleted(
    client: Client, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in (1, 3, 5):
        site.upload(sample(tmp_path / f"{first}.tar", first, 10, 10))
    delete_one, left = dataranges._delete_one, [1, 3]

    def delete_two(connection: Any, name: str, each: Datarange, purge: bool) -> None:
        if each.first not in left:
            raise KeyboardInterrupt
        delete_one(connection, name, each, purge)

    monkeypatch.setattr(dataranges, "_delete_one", delete_two)
    with pytest.raises(Interrupted, match=r"deleted before that: 2 of 3 dataranges, datapoints 1 to 4; run it again"):
        client.delete_dataranges(site.name, 1, 6)
    assert [each.first for each in client.list_dataranges(site.name)] == [5]
