"""Migrations: each runs once, whoever starts at the same time, and stays as it was written."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from datas3t import v1
from datas3t.server.db.migrate import MigrationEdited, migrate
from datas3t.server.errors import Failure

TABLES = {"s3_buckets", "datas3ts", "dataranges", "datarange_uploads", "aggregate_uploads", "keys_to_delete"}


def test_ten_servers_that_start_at_once_migrate_once(empty_database: str) -> None:
    with ThreadPoolExecutor(10) as threads:
        ran = list(threads.map(lambda _: migrate(empty_database), range(10)))
    assert sorted(len(each) for each in ran) == [0] * 9 + [max(map(len, ran))]
    assert max(map(len, ran)) >= 1
    with psycopg.connect(empty_database) as conn:
        found = {name for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert found == TABLES | {"schema_migrations"}


def test_a_migration_that_was_edited_is_refused(empty_database: str, tmp_path: Path) -> None:
    first = tmp_path / "0001_first.sql"
    first.write_text("CREATE TABLE a (id int)")
    assert migrate(empty_database, tmp_path) == ["0001_first"]
    first.write_text("CREATE TABLE a (id bigint)")
    with pytest.raises(MigrationEdited, match=r"0001_first\.sql was edited"):
        migrate(empty_database, tmp_path)


def test_a_migration_that_fails_changes_nothing(empty_database: str, tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE a (id int)")
    broken = tmp_path / "0002_second.sql"
    broken.write_text("CREATE TABLE b (id int); SELECT nonsense")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        migrate(empty_database, tmp_path)
    broken.write_text("CREATE TABLE b (id int)")
    assert migrate(empty_database, tmp_path) == ["0002_second"]


def test_both_spellings_of_the_scheme_are_known(empty_database: str) -> None:
    scheme, _, rest = empty_database.partition("://")
    assert scheme in ("postgres", "postgresql")
    assert migrate(f"postgres://{rest}")
    assert migrate(f"postgresql://{rest}") == []


def test_a_database_that_is_away_is_a_failure_without_the_password() -> None:
    with pytest.raises(Failure) as caught:
        migrate("postgresql://someone:hidden@127.0.0.1:1/nowhere")
    assert caught.value.reason == v1.ERROR_REASON_DATABASE_UNAVAILABLE
    assert "try again" in caught.value.message
    assert "hidden" not in caught.value.message
