"""The whole server: what it needs to start, how it fails to start, and how it stops."""

import contextlib
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql

from datas3t import v1
from datas3t.embedded.ports import free_ports
from datas3t.server import buckets
from datas3t.server.app.server import Server
from datas3t.server.errors import Failure
from datas3t.server.settings import Address, SettingsError
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from tests.support.front import http_request
from tests.support.serving import serving, settings_for
from tests.support.stack import ServerProcess, wait_until

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


def add_bucket(server: Server, services: "Services", bucket: str) -> None:
    s3 = services.s3
    buckets.add(server.resources, "store", s3.endpoint, bucket, None, s3.access_key, s3.secret_key)


def signature_of_new_upload(process: ServerProcess, datas3t: str) -> str:
    """Start an upload and return the signature in its presigned URL."""
    body = {"datas3t_name": datas3t, "first_datapoint_index": 0, "number_of_datapoints": 1, "data_size": 2048}
    url: str = http_request(process.url, "POST", "/api/v1/upload-datarange", body).json["presigned_data_put_url"]
    return url.partition("X-Amz-Signature=")[2]


def test_a_server_starts_on_an_empty_database_and_is_ready(
    services: "Services", empty_database: str, tmp_path: Path
) -> None:
    with serving(settings_for(services, empty_database, tmp_path)) as server:
        assert http_request(server.url, "GET", "/readyz").json == {"status": "ready"}
        assert http_request(server.url, "GET", "/api/bucket").json == []


def test_several_servers_can_start_on_one_empty_database_at_once(
    services: "Services", empty_database: str, tmp_path: Path
) -> None:
    servers = [Server(settings_for(services, empty_database, tmp_path)) for _ in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Server.start, servers))
        assert {http_request(server.url, "GET", "/api/bucket").status for server in servers} == {200}
    finally:
        for server in servers:
            server.stop()


def test_grpc_can_have_a_second_port(services: "Services", database: str, tmp_path: Path) -> None:
    settings = settings_for(services, database, tmp_path, grpc_addr=Address("127.0.0.1", 0))
    with serving(settings) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        assert not BucketServiceStub(channel).ListBuckets(v1.ListBucketsRequest()).buckets


def test_a_different_encryption_key_is_refused_at_start(
    services: "Services", database: str, bucket: str, tmp_path: Path
) -> None:
    with serving(settings_for(services, database, tmp_path)) as server:
        add_bucket(server, services, bucket)
    other = Server(settings_for(services, database, tmp_path, encryption_key="b3RoZXI="))
    with pytest.raises(SettingsError, match="bucket configuration 'store' were encrypted with another encryption key"):
        other.start()
    other.stop()


def test_a_cache_folder_that_cannot_be_created_is_refused_at_start(
    services: "Services", database: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    settings = settings_for(services, database, tmp_path, cache_dir=tmp_path / "file" / "cache")
    with pytest.raises(SettingsError, match=r"as the index cache: .*; choose another --cache-dir"):
        Server(settings).start()


def test_without_a_database_a_server_fails_to_start_without_showing_the_password(
    services: "Services", tmp_path: Path
) -> None:
    unreachable = f"postgres://me:hush@127.0.0.1:{free_ports(1)[0]}/x"
    with pytest.raises(Failure, match="the database does not respond") as caught:
        Server(settings_for(services, unreachable, tmp_path)).start()
    assert "hush" not in str(caught.value)


def test_a_failed_start_leaves_nothing_open(services: "Services", database: str, tmp_path: Path) -> None:
    with serving(settings_for(services, database, tmp_path)) as first:
        before = threading.active_count()
        taken = Address.parse(first.url.removeprefix("http://"))
        with pytest.raises(SettingsError, match="the port is in use"):
            Server(settings_for(services, database, tmp_path, addr=taken)).start()
        wait_until(lambda: threading.active_count() <= before, what="the end of the second server's threads")


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
        wait_until(lambda: http_request(server.url, "GET", "/readyz").status == 503, 5, "the end of readiness")
        unready = http_request(server.url, "GET", "/readyz")
        assert unready.json == {"status": "the database does not respond"}
        assert http_request(server.url, "GET", "/healthz").status == 200
        assert http_request(server.url, "GET", "/metrics").status == 200
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))
        wait_until(lambda: http_request(server.url, "GET", "/readyz").status == 200, what="readiness")


def test_the_metrics_cover_the_database_deletions_and_the_index_cache(
    services: "Services", database: str, tmp_path: Path
) -> None:
    with serving(settings_for(services, database, tmp_path)) as server:
        page = http_request(server.url, "GET", "/metrics").body.decode()
    for name in ("database_connections", "deletions_due", "deletions_oldest_seconds", "index_cache_bytes"):
        assert f"\ndatas3t_{name} " in page


def test_open_uploads_the_catalogue_and_signed_urls_are_metrics(
    services: "Services", database: str, bucket: str, tmp_path: Path
) -> None:
    def read(server: Server) -> dict[str, float]:
        page = http_request(server.url, "GET", "/metrics").body.decode()
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        return {"/".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}

    upload = {"datas3t_name": "images", "first_datapoint_index": 1, "number_of_datapoints": 2, "data_size": 3072}
    with serving(settings_for(services, database, tmp_path)) as server:
        add_bucket(server, services, bucket)
        before = read(server)
        assert before["datas3t_uploads_open"] == before["datas3t_uploads_oldest_seconds"] == 0
        http_request(server.url, "POST", "/api/v1/datas3ts", {"name": "images", "bucket": "store"})
        assert http_request(server.url, "POST", "/api/v1/upload-datarange", upload).status == 200
        after = read(server)
        assert (after["datas3t_uploads_open"], after["datas3t_aggregates_open"]) == (1, 0)
        assert after["datas3t_uploads_oldest_seconds"] > 0
        signed = "datas3t_urls_signed_total/PUT"
        assert after[signed] == before[signed] + 2  # for the archive and for its index
    with serving(settings_for(services, database, tmp_path)) as server:  # the sums are remembered for a minute
        assert [read(server)[f"datas3t_{name}"] for name in ("datas3ts", "dataranges", "bytes")] == [1, 0, 0]


def test_calls_to_s3_are_metrics_by_operation_and_code(
    services: "Services", database: str, bucket: str, tmp_path: Path
) -> None:
    def counted(server: Server, code: str) -> float:
        page = http_request(server.url, "GET", "/metrics").body.decode()
        labels = {"operation": "ListObjectsV2", "code": code}
        return sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == "datas3t_s3_calls_total" and sample.labels == labels
        )

    with serving(settings_for(services, database, tmp_path)) as server:
        before = counted(server, "200"), counted(server, "NoSuchBucket")
        with pytest.raises(Failure, match="there is no bucket"):
            add_bucket(server, services, "missing-bucket")
        add_bucket(server, services, bucket)
        assert (counted(server, "200"), counted(server, "NoSuchBucket")) == (before[0] + 1, before[1] + 1)


def test_stop_can_be_called_twice_and_wait_returns(services: "Services", database: str, tmp_path: Path) -> None:
    server = Server(settings_for(services, database, tmp_path))
    assert server.stop() is True, "a server that never started has nothing to drain"
    server.start()
    assert server.stop() is True
    assert server.stop() is True
    server.wait()


def test_sigterm_under_load_loses_no_response_and_exits_0(
    services: "Services", database: str, bucket: str, tmp_path: Path
) -> None:
    process = ServerProcess(tmp_path, database, services.encryption_key, options=["--log-level", "debug"])
    process.wait_ready()
    wait_until(lambda: f"listening on {process.url}\n" in process.log, what="the address in the log")
    s3 = services.s3
    store = {"endpoint": s3.endpoint, "bucket": bucket, "access_key": s3.access_key, "secret_key": s3.secret_key}
    assert http_request(process.url, "POST", "/api/bucket", {"name": "store", **store}).status == 201
    stopping = threading.Event()
    added: list[str] = []
    refused: list[str] = []

    def load(worker: int) -> None:
        for number in range(10_000):
            name = f"{worker}-{number}"
            with contextlib.suppress(OSError):
                response = http_request(process.url, "POST", "/api/datas3t", {"name": name, "bucket": "store"})
                assert response.status == 204 or response.reason == "SHUTTING_DOWN"
                (added if response.status == 204 else refused).append(name)
                continue
            assert stopping.is_set(), "a connection was refused before SIGTERM"
            return

    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(load, worker) for worker in range(8)]
        wait_until(lambda: len(added) > 50)
        signature = signature_of_new_upload(process, added[0])
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


def test_the_environment_alone_is_enough(services: "Services", database: str, tmp_path: Path) -> None:
    environment = {
        "GRPC_ADDR": "127.0.0.1:0",
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "json",
        "CORS_ORIGIN": "https://a.example,https://b.example",
        "ALLOWED_HOSTS": "datas3t.example",
    }
    process = ServerProcess(tmp_path, database, services.encryption_key, environment=environment)
    process.wait_ready()
    for origin in ("https://a.example", "https://b.example"):
        allowed = http_request(process.url, "GET", "/api/bucket", headers={"Origin": origin})
        assert allowed.headers["access-control-allow-origin"] == origin
    assert http_request(process.url, "GET", "/api/bucket", headers={"Host": "datas3t.example"}).status == 200
    assert http_request(process.url, "GET", "/api/bucket", headers={"Host": "other.example"}).status == 403
    with socket.create_connection(("127.0.0.1", int(process.url.rpartition(":")[2])), 20) as connection:
        connection.sendall(b"no HTTP\r\n\r\n")
        assert b" 400 " in connection.recv(64)
    assert process.terminate() == 0, process.log
    entries = [json.loads(line) for line in process.log.splitlines()]
    levels = {entry["message"]: entry["level"] for entry in entries}
    assert levels["a connection sent bytes that are not HTTP"] == "debug"
    assert f"listening on {process.url}" in [entry["message"] for entry in entries]
    assert any(entry["message"].startswith("listening for gRPC alone on port ") for entry in entries)
    call = next(entry for entry in entries if entry.get("method") == "datas3t.v1.BucketService/ListBuckets")
    assert (call["transport"], call["code"]) == ("rest", "OK")
    assert call["request_id"]


def test_a_process_that_cannot_start_prints_one_line_with_the_reason(services: "Services", tmp_path: Path) -> None:
    unreachable = f"postgres://me:hush@127.0.0.1:{free_ports(1)[0]}/x"
    process = ServerProcess(tmp_path, unreachable, services.encryption_key)
    assert process.wait() == 1
    assert process.log.startswith("Error: the database does not respond")
    assert len(process.log.splitlines()) == 1
    assert "hush" not in process.log


def test_the_lifetime_of_urls_comes_from_the_settings(services: "Services", database: str, tmp_path: Path) -> None:
    settings = settings_for(services, database, tmp_path, url_lifetime=timedelta(hours=1))
    with serving(settings) as server:
        assert server.resources.url_lifetime == timedelta(hours=1)
