"""Settings: what is accepted, and that every error says what would do."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from datas3t.server.settings import Address, Settings, SettingsError

GOOD = Settings("postgres://u:hush@h/d", "aHVzaA==", Path("cache"))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":8765", "", 8765),
        (":0", "", 0),
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("[::1]:8765", "::1", 8765),
        ("[::]:0", "::", 0),
        ("localhost:65535", "localhost", 65535),
        (" my-host.example:1 ", "my-host.example", 1),
    ],
)
def test_an_address_is_host_and_port(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert Address.parse(str(Address(host, port))) == Address(host, port)


@pytest.mark.parametrize(
    "text", ["", "8765", "host", "host:", "::1:80", "h:65536", "h:-1", "http://h:1", "h:1/x", "a b:1"]
)
def test_what_is_no_address_is_refused_with_examples(text: str) -> None:
    with pytest.raises(SettingsError, match="is not host:port; examples: :8765"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"db_url": ""}, "set --db-url or DB_URL"),
        ({"db_url": "mysql://h/d"}, "postgres:// or postgresql://"),
        ({"db_url": "postgres://h/d?nosuch=1"}, "the database URL cannot be read"),
        ({"db_url": "postgres://[::1/d"}, "the database URL cannot be read"),
        ({"encryption_key": ""}, "`datas3t keygen` makes one"),
        ({"encryption_key": "not base64!"}, "must be base64 of at least one byte"),
        ({"max_cache_size": 0}, "more than 0 bytes"),
        ({"url_lifetime": timedelta()}, "1 second to 7 days"),
        ({"url_lifetime": timedelta(days=8)}, "1 second to 7 days"),
        ({"log_level": "loud"}, "none of debug, info, warning, error"),
    ],
)
def test_what_cannot_be_used_is_refused_and_says_why(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        replace(GOOD, **change)


def test_a_password_that_is_not_encoded_is_not_repeated() -> None:
    with pytest.raises(SettingsError, match="percent-encoded") as caught:
        replace(GOOD, db_url="postgres://u:hush%ZZ@h/d")
    assert "hush" not in str(caught.value)


def test_secrets_are_not_in_the_repr() -> None:
    assert "hush" not in repr(GOOD)
    assert "aHVzaA" not in repr(GOOD)


def test_both_spellings_of_a_database_url_will_do() -> None:
    assert replace(GOOD, db_url="postgresql://h/d").max_cache_size == 2**30
