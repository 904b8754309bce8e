"""Keys of credentials that are replaced while servers run: nothing is lost, whatever ends in the middle."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from datas3t.client import Client
from datas3t.server.app import keyring
from datas3t.server.app.server import Server
from datas3t.server.credentials import Cipher, keygen
from datas3t.server.errors import Failure
from datas3t.server.settings import SettingsError
from tests.support.front import http_request
from tests.support.serving import serving, settings_for
from tests.support.stack import wait_until

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

OLD, NEW = keygen(), keygen()
ROWS = 450  # some batches
METRIC = b"datas3t_credentials_of_other_keys"


def fill(database: str, key: str, rows: int = ROWS) -> None:
    """Add configurations whose credentials are encrypted with a key."""
    cipher = Cipher(key)
    with psycopg.connect(database) as conn, conn.cursor() as cur:
        cur.executemany(
            "INSERT INTO s3_buckets (name, endpoint, bucket, region, access_key, secret_key)"
            " VALUES (%s, %s, 'b', 'r', %s, %s)",
            [(f"b{n:04}", f"http://s3/{n}", cipher.encrypt(f"a{n}"), cipher.encrypt(f"s{n}")) for n in range(rows)],
        )


def credentials(database: str) -> dict[str, tuple[str, str]]:
    """Return the encrypted credentials by the name of their configuration."""
    with psycopg.connect(database) as conn:
        rows = conn.execute("SELECT name, access_key, secret_key FROM s3_buckets").fetchall()
    return {name: (access_key, secret_key) for name, access_key, secret_key in rows}


def of_first(database: str, key: str) -> int:
    cipher = Cipher(key)
    return sum(all(map(cipher.is_first, pair)) for pair in credentials(database).values())


def command(database: str, keys: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "datas3t", "rekey", "--db-url", database, "--encryption-key", keys],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def held(database: str, name: str) -> Iterator[Callable[[], int]]:
    """Keep the row of a configuration locked, and yield a function that returns how many wait for it."""
    with psycopg.connect(database) as conn, psycopg.connect(database, autocommit=True) as watching:
        conn.execute("SELECT FROM s3_buckets WHERE name = %s FOR UPDATE", [name])

        def waiting() -> int:
            row = watching.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            assert row
            return int(row[0])

        yield waiting
        conn.rollback()


def test_all_credentials_are_written_anew_and_stay_what_they_were(database: str) -> None:
    fill(database, OLD)
    done = keyring.rekey(database, f"{NEW},{OLD}")
    assert done == (ROWS, ROWS, [])
    new = Cipher(NEW)
    for name, (access_key, secret_key) in credentials(database).items():
        number = int(name[1:])
        assert (new.decrypt(access_key), new.decrypt(secret_key)) == (f"a{number}", f"s{number}")
    before = credentials(database)
    assert keyring.rekey(database, f"{NEW},{OLD}") == (ROWS, 0, [])
    assert credentials(database) == before


def test_what_no_key_decrypts_is_named_and_left_alone(database: str) -> None:
    fill(database, OLD, 5)
    with psycopg.connect(database) as conn:
        conn.execute("UPDATE s3_buckets SET secret_key = %s WHERE name = 'b0002'", [Cipher(keygen()).encrypt("s")])
    before = credentials(database)["b0002"]
    assert keyring.rekey(database, f"{NEW},{OLD}") == (5, 4, ["b0002"])
    assert credentials(database)["b0002"] == before
    process = command(database, f"{NEW},{OLD}")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == "Encrypted the credentials of 0 of 5 bucket configurations.\n"
    assert "encrypted with a key that is not given: 'b0002'; add that key" in err
    assert NEW not in err + out


def test_a_rekey_that_is_killed_in_the_middle_and_two_at_once_after_it_lose_nothing(database: str) -> None:
    fill(database, OLD)
    with held(database, "b0250") as waiting:
        killed = command(database, f"{NEW},{OLD}")
        wait_until(lambda: waiting() == 1, 60, "the row that is locked")
        killed.kill()
        killed.communicate(timeout=60)
    written = of_first(database, NEW)
    assert 0 < written < ROWS
    assert written % 100 == 0, "a batch is written as a whole"
    assert len(credentials(database)) == ROWS
    with held(database, "b0250") as waiting:
        both = [command(database, f"{NEW},{OLD}") for _ in range(2)]
        wait_until(lambda: waiting() == 2, 60, "both at the row that is locked")
    texts = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert of_first(database, NEW) == ROWS
    assert sum(int(out.split()[4]) for out, _ in texts) == ROWS - written, "each row is written once"


def test_two_servers_go_on_while_keys_are_replaced_and_a_rekey_is_killed(
    services: "Services", database: str, bucket: str, tmp_path: Path
) -> None:
    s3 = services.s3
    keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
    fill(database, OLD)
    stop = threading.Event()
    rounds = [0, 0]

    def work(url: str, number: int) -> None:
        """Use credentials, and write them, until the end."""
        with Client(url) as client:
            while not stop.is_set() or not rounds[number]:
                client.update_bucket("real", **keys)
                client.add_datas3t(f"d{number}-{rounds[number]}", bucket="real")
                rounds[number] += 1

    with ExitStack() as stack:
        # The first server has the new key in the second place yet, the other one in the first already.
        urls = []
        for number, ring in enumerate((f"{OLD},{NEW}", f"{NEW},{OLD}")):
            folder = tmp_path / str(number)
            folder.mkdir()
            settings = settings_for(services, database, folder, encryption_key=ring)
            urls.append(stack.enter_context(serving(settings)).url)
        with Client(urls[0]) as client:
            client.add_bucket("real", endpoint=s3.endpoint, bucket=bucket, **keys)
        assert f"{METRIC.decode()} {ROWS + 1}.0".encode() in http_request(urls[1], "GET", "/metrics").body
        pool = stack.enter_context(ThreadPoolExecutor(2))
        working = [pool.submit(work, url, number) for number, url in enumerate(urls)]
        with held(database, "b0250") as waiting:
            killed = command(database, f"{NEW},{OLD}")
            wait_until(lambda: waiting() >= 1, 60, "the row that is locked")
            killed.kill()
            killed.communicate(timeout=60)
        assert keyring.rekey(database, f"{NEW},{OLD}").unreadable == []
        stop.set()
        for each in working:
            each.result(60)
    # No server writes with the old key any more: after one more, it is not needed.
    keyring.rekey(database, f"{NEW},{OLD}")
    assert of_first(database, NEW) == ROWS + 1
    with (
        serving(settings_for(services, database, tmp_path, encryption_key=NEW)) as server,
        Client(server.url) as client,
    ):
        client.add_datas3t("after", bucket="real")
        assert len(client.list_datas3ts()) == sum(rounds) + 1
        assert METRIC + b" 0.0" in http_request(server.url, "GET", "/metrics").body


def test_a_server_tells_how_many_credentials_use_another_key(
    services: "Services", database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(database, OLD, 3)
    settings = settings_for(services, database, tmp_path, encryption_key=f"{NEW},{OLD}")
    with serving(settings) as server:
        assert "the credentials of 3 bucket configurations do not use the first encryption key" in caplog.text
        assert METRIC + b" 3.0" in http_request(server.url, "GET", "/metrics").body
        keyring.rekey(database, f"{NEW},{OLD}")
        assert METRIC + b" 0.0" in http_request(server.url, "GET", "/metrics").body
    alone = Server(settings_for(services, database, tmp_path, encryption_key=OLD))
    with pytest.raises(SettingsError, match="encrypted with another encryption key; add that key to --encryption-key"):
        alone.start()
    alone.stop()


def test_what_is_wrong_with_the_database_is_one_line(empty_database: str) -> None:
    with pytest.raises(Failure, match="the database has no tables of datas3t; check --db-url"):
        keyring.rekey(empty_database, NEW)
    with pytest.raises(SettingsError, match="must be base64"):
        keyring.rekey(empty_database, "not base64!")
    process = command("postgres://u:hush@127.0.0.1:1/d", NEW)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (1, "", 1)
    assert "hush" not in err
