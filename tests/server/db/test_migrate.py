"""Migrations: each runs once, even if servers start concurrently, and its file must not change."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from datas3t import v1
from datas3t.server.db.migrate import _FOLDER, _LOCK, MigrationEdited, migrate
from datas3t.server.errors import Failure
from tests.support.counters import wrong_counters

TABLES = {"s3_buckets", "datas3ts", "dataranges", "datarange_uploads", "aggregate_uploads", "keys_to_delete"}
TABLES |= {"cleared_catalogues", "key_reservations", "checksums_uploads", "table_uploads", "table_files", "api_tokens"}


def test_ten_servers_that_start_concurrently_migrate_once(empty_database: str) -> None:
    with ThreadPoolExecutor(10) as threads:
        ran = list(threads.map(lambda _: migrate(empty_database), range(10)))
    assert sorted(len(each) for each in ran) == [0] * 9 + [max(map(len, ran))]
    assert max(map(len, ran)) >= 1
    with psycopg.connect(empty_database) as conn:
        tables = {name for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert tables == TABLES | {"schema_migrations"}


def test_the_numbers_of_existing_datas3ts_are_filled_in(empty_database: str, tmp_path: Path) -> None:
    for path in sorted(_FOLDER.glob("000[1-6]*.sql")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert len(migrate(empty_database, tmp_path)) == 6
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(
            """INSERT INTO datas3ts (name) VALUES ('empty'), ('images'), ('other');
               INSERT INTO dataranges (datas3t_id, first_key, last_key, data_object_key, index_object_key, size_bytes,
                                       entries_size_bytes, data_etag, index_etag)
               SELECT id, n * 10 + id, n * 10 + 8, n::text, n::text, n, 1, '', ''
                 FROM generate_series(1, 50) AS n, datas3ts WHERE name <> 'empty'"""
        )
        migrate(empty_database)
        assert wrong_counters(conn) == []
        assert conn.execute("SELECT sum(datarange_count) FROM datas3ts").fetchone() == (100,)


def test_an_edited_migration_is_an_error(empty_database: str, tmp_path: Path) -> None:
    first = tmp_path / "0001_first.sql"
    first.write_text("CREATE TABLE a (id int)")
    assert migrate(empty_database, tmp_path) == ["0001_first"]
    first.write_text("CREATE TABLE a (id bigint)")
    with pytest.raises(MigrationEdited, match=r"0001_first\.sql was edited"):
        migrate(empty_database, tmp_path)


def test_a_failed_migration_changes_nothing(empty_database: str, tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE a (id int)")
    broken = tmp_path / "0002_second.sql"
    broken.write_text("CREATE TABLE b (id int); SELECT nonsense")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        migrate(empty_database, tmp_path)
    broken.write_text("CREATE TABLE b (id int)")
    assert migrate(empty_database, tmp_path) == ["0002_second"]


def test_both_schemes_of_database_urls_work(empty_database: str) -> None:
    scheme, _, rest = empty_database.partition("://")
    assert scheme in ("postgres", "postgresql")
    assert migrate(f"postgres://{rest}")
    assert migrate(f"postgresql://{rest}") == []


def test_an_unreachable_database_is_a_failure_that_does_not_show_the_password() -> None:
    with pytest.raises(Failure) as caught:
        migrate("postgresql://someone:hidden@127.0.0.1:1/nowhere")
    assert caught.value.reason == v1.ERROR_REASON_DATABASE_UNAVAILABLE
    assert "try again" in caught.value.message
    assert "hidden" not in caught.value.message


def test_a_wrong_password_is_an_error_about_the_password(empty_database: str) -> None:
    url = urlsplit(empty_database)
    wrong = url._replace(netloc=f"{url.username}:hidden@{url.hostname}:{url.port}").geturl()
    message = failed_start(wrong)
    assert "password authentication failed" in message
    assert "correct the user and the password in DB_URL" in message
    assert "hidden" not in message


@pytest.mark.parametrize(
    ("query", "cause", "advice"),
    [
        ("sslmode=require", "does not support SSL", "correct sslmode"),
        ("sslmode=nonsense", 'invalid sslmode value: "nonsense"', "correct sslmode"),
        ("target_session_attrs=standby", "standby", "try again"),
    ],
)
def test_a_wrong_parameter_is_an_error_about_that_parameter(
    empty_database: str, query: str, cause: str, advice: str
) -> None:
    message = failed_start(f"{empty_database}?{query}")
    assert cause in message
    assert advice in message


def test_a_missing_database_is_an_error_that_names_it(empty_database: str) -> None:
    message = failed_start(empty_database.rpartition("/")[0] + "/nowhere")
    assert 'database "nowhere" does not exist; create the database' in message


def test_a_user_without_the_privilege_to_create_tables_can_only_start_on_a_migrated_database(
    empty_database: str,
) -> None:
    url = urlsplit(empty_database)
    user = f"guest_{url.path.removeprefix('/')}"
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hidden'").format(sql.Identifier(user)))
        try:
            guest = url._replace(netloc=f"{user}:hidden@{url.hostname}:{url.port}").geturl()
            message = failed_start(guest)
            assert "the server's user lacks a privilege" in message
            assert "permission denied for schema public" in message
            migrate(empty_database)
            admin.execute(sql.SQL("GRANT SELECT ON schema_migrations TO {}").format(sql.Identifier(user)))
            assert migrate(guest) == [], "no privilege is needed if no migration is missing"
        finally:
            admin.execute(sql.SQL("DROP OWNED BY {name}; DROP ROLE {name}").format(name=sql.Identifier(user)))


def failed_start(url: str) -> str:
    """Return the message of the failure that migrating raises."""
    with pytest.raises(Failure) as caught:
        migrate(url)
    assert caught.value.reason == v1.ERROR_REASON_DATABASE_UNAVAILABLE
    assert "\n" not in caught.value.message
    return caught.value.message


def test_an_older_server_does_not_start_on_a_newer_schema(empty_database: str, tmp_path: Path) -> None:
    first = tmp_path / "0001_first.sql"
    first.write_text("CREATE TABLE a (id int)")
    second = tmp_path / "0002_second.sql"
    second.write_text("CREATE TABLE b (id int)")
    migrate(empty_database, tmp_path)
    second.unlink()
    with pytest.raises(MigrationEdited, match="by a newer server, because this one does not have 0002_second"):
        migrate(empty_database, tmp_path)


def test_the_wait_for_another_servers_migration_is_limited(empty_database: str) -> None:
    with psycopg.connect(empty_database) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        with pytest.raises(Failure, match="another server has been migrating the database for 0 seconds"):
            migrate(empty_database, lock_wait=timedelta(milliseconds=50))


def test_a_migrated_database_needs_no_lock(database: str) -> None:
    with psycopg.connect(database) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        assert migrate(database, lock_wait=timedelta(milliseconds=50)) == []
