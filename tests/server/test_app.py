"""The whole server: what it needs to start, what it says when it cannot, and how it ends."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import psycopg
import pytest
from psycopg import sql

from datas3t import v1
from datas3t.embedded.ports import free
from datas3t.server import buckets
from datas3t.server.app import Server
from datas3t.server.errors import Failure
from datas3t.server.settings import Address, SettingsError
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from tests.support.front import ask
from tests.support.serving import serving, settings_for
from tests.support.stack import ServerProcess, wait_until

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


def add_bucket(server: Server, services: "Services", bucket: str) -> None:
    s3 = services.s3
    buckets.add(server.resources, "store", s3.endpoint, bucket, None, s3.access_key, s3.secret_key)


def started_upload(process: ServerProcess, datas3t: str) -> str:
    """Starts an upload; the signature of a URL that it answers."""
    asked = {"datas3t_name": datas3t, "first_datapoint_index": 0, "number_of_datapoints": 1, "data_size": 2048}
    url: str = ask(process.url, "POST", "/api/v1/upload-datarange", asked).json["presigned_data_put_url"]
    return url.partition("X-Amz-Signature=")[2]


def test_it_starts_on_an_empty_database_and_is_ready(services: "Services", empty_database: str, tmp_path: Path) -> None:
    with serving(settings_for(services, empty_database, tmp_path)) as server:
        assert ask(server.url, "GET", "/readyz").json == {"status": "ready"}
        assert ask(server.url, "GET", "/api/bucket").json == []


def test_several_may_start_on_one_empty_database_at_once(
    services: "Services", empty_database: str, tmp_path: Path
) -> None:
    servers = [Server(settings_for(services, empty_database, tmp_path)) for _ in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Server.start, servers))
        assert {ask(server.url, "GET", "/api/bucket").status for server in servers} == {200}
    finally:
        for server in servers:
            server.stop()


def test_grpc_alone_may_have_a_port(services: "Services", database: str, tmp_path: Path) -> None:
    settings = settings_for(services, database, tmp_path, grpc_addr=Address("127.0.0.1", 0))
    with serving(settings) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        assert not BucketServiceStub(channel).ListBuckets(v1.ListBucketsRequest()).buckets


def test_another_encryption_key_is_found_at_start(
    services: "Services", database: str, bucket: str, tmp_path: Path
) -> None:
    with serving(settings_for(services, database, tmp_path)) as server:
        add_bucket(server, services, bucket)
    other = Server(settings_for(services, database, tmp_path, encryption_key="b3RoZXI="))
    with pytest.raises(SettingsError, match=r"not the encryption key .* of bucket configuration 'store'"):
        other.start()
    other.stop()


def test_a_cache_folder_that_cannot_be_had_is_found_at_start(
    services: "Services", database: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    settings = settings_for(services, database, tmp_path, cache_dir=tmp_path / "file" / "cache")
    with pytest.raises(SettingsError, match=r"as the index cache: .*; choose another --cache-dir"):
        Server(settings).start()


def test_without_a_database_it_does_not_start_and_says_so(services: "Services", tmp_path: Path) -> None:
    nowhere = f"postgres://me:hush@127.0.0.1:{free(1)[0]}/x"
    with pytest.raises(Failure, match="the database does not answer") as caught:
        Server(settings_for(services, nowhere, tmp_path)).start()
    assert "hush" not in str(caught.value)


def test_a_start_that_fails_leaves_nothing_open(services: "Services", database: str, tmp_path: Path) -> None:
    with serving(settings_for(services, database, tmp_path)) as first:
        before = threading.active_count()
        taken = Address.parse(first.url.removeprefix("http://"))
        with pytest.raises(SettingsError, match="the port is in use"):
            Server(settings_for(services, database, tmp_path, addr=taken)).start()
        wait_until(lambda: threading.active_count() <= before, what="the end of its threads")


def test_readiness_follows_the_database(services: "Services", database: str, tmp_path: Path) -> None:
    name = database.rpartition("/")[2]
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    with (
        serving(settings_for(services, database, tmp_path)) as server,
        psycopg.connect(services.postgres.url(), autocommit=True) as admin,
    ):
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        admin.execute(end, [name])
        away = ask(server.url, "GET", "/readyz")
        assert (away.status, away.json) == (503, {"status": "the database does not answer"})
        assert ask(server.url, "GET", "/healthz").status == 200
        assert ask(server.url, "GET", "/metrics").status == 200
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))
        wait_until(lambda: ask(server.url, "GET", "/readyz").status == 200, what="readiness")


def test_metrics_tell_of_database_deletions_and_cache(services: "Services", database: str, tmp_path: Path) -> None:
    with serving(settings_for(services, database, tmp_path)) as server:
        page = ask(server.url, "GET", "/metrics").body.decode()
    for name in ("database_connections", "deletions_due", "deletions_oldest_seconds", "index_cache_bytes"):
        assert f"\ndatas3t_{name} " in page


def test_stop_may_come_twice_and_wait_returns(services: "Services", database: str, tmp_path: Path) -> None:
    server = Server(settings_for(services, database, tmp_path))
    assert server.stop() is True, "it never ran"
    server.start()
    assert server.stop() is True
    assert server.stop() is True
    server.wait()


def test_sigterm_under_load_loses_no_answer_and_exits_0(
    services: "Services", database: str, bucket: str, tmp_path: Path
) -> None:
    process = ServerProcess(tmp_path, database, services.encryption_key, options=["--log-level", "debug"])
    process.wait_ready()
    assert f"listening on {process.url}\n" in process.log
    s3 = services.s3
    asked = {"endpoint": s3.endpoint, "bucket": bucket, "access_key": s3.access_key, "secret_key": s3.secret_key}
    assert ask(process.url, "POST", "/api/bucket", {"name": "store", **asked}).status == 201
    stopping = threading.Event()
    added: list[str] = []
    refused: list[str] = []

    def load(worker: int) -> None:
        for number in range(10_000):
            name = f"{worker}-{number}"
            with contextlib.suppress(OSError):
                answer = ask(process.url, "POST", "/api/datas3t", {"name": name, "bucket": "store"})
                assert answer.status == 204 or answer.reason == "SHUTTING_DOWN"
                (added if answer.status == 204 else refused).append(name)
                continue
            assert stopping.is_set(), "a connection was refused before the end"
            return

    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(load, worker) for worker in range(8)]
        wait_until(lambda: len(added) > 50)
        signature = started_upload(process, added[0])
        stopping.set()
        assert process.terminate() == 0, process.log
        for each in loads:
            each.result(30)
    with psycopg.connect(database) as conn:
        stored = {name for (name,) in conn.execute("SELECT name FROM datas3ts").fetchall()}
    assert stored >= set(added)
    assert not stored & set(refused)
    for secret in (s3.secret_key, s3.access_key, services.encryption_key, signature):
        assert secret not in process.log


def test_a_process_that_cannot_start_says_why_in_one_line(services: "Services", tmp_path: Path) -> None:
    nowhere = f"postgres://me:hush@127.0.0.1:{free(1)[0]}/x"
    process = ServerProcess(tmp_path, nowhere, services.encryption_key)
    assert process.wait() == 1
    assert process.log.startswith("Error: the database does not answer")
    assert len(process.log.splitlines()) == 1
    assert "hush" not in process.log


def test_urls_live_as_long_as_the_server_is_told(services: "Services", database: str, tmp_path: Path) -> None:
    settings = settings_for(services, database, tmp_path, url_lifetime=timedelta(hours=1))
    with serving(settings) as server:
        assert server.resources.url_lifetime == timedelta(hours=1)
