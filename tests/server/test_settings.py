"""Settings: which values are accepted, and that every error says what is allowed."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from datas3t.server.settings import Address, Settings, SettingsError

VALID = Settings("postgres://u:hush@h/d", "aHVzaA==", Path("cache"))


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
def test_text_that_is_not_an_address_is_refused_with_examples(text: str) -> None:
    with pytest.raises(SettingsError, match="is not host:port; examples: :8765"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"db_url": ""}, "set --db-url or DB_URL"),
        ({"db_url": "mysql://h/d"}, "postgres:// or postgresql://"),
        ({"db_url": "postgres://h/d?nosuch=1"}, "the database URL cannot be read"),
        ({"db_url": "postgres://[::1/d"}, "the database URL cannot be read"),
        (
            {"allow_endpoints": ("s3/bucket",)},
            "'s3/bucket' matches no endpoint: .*; correct --allow-endpoints or ALLOW",
        ),
        ({"encryption_key": ""}, "`datas3t keygen` makes one"),
        ({"encryption_key": "not base64!"}, "must be base64 of at least one byte"),
        ({"max_cache_size": 0}, "larger than 0 bytes; set --max-cache-size"),
        ({"url_lifetime": timedelta()}, "1 second to 7 days"),
        ({"url_lifetime": timedelta(days=8)}, "1 second to 7 days"),
        ({"log_level": "loud"}, "not one of debug, info, warning, error"),
        ({"log_format": "xml"}, "not one of text, json"),
        ({"cors_origins": ("*",)}, "is not scheme://host or scheme://host:port; correct --cors-origin"),
        ({"cors_origins": ("https://a.example/path",)}, "correct --cors-origin or CORS_ORIGIN"),
        ({"allowed_hosts": ("https://a.example",)}, "correct --allowed-hosts or ALLOWED_HOSTS"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_the_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(VALID, **change)


def test_the_error_for_an_unreadable_database_url_does_not_repeat_the_password() -> None:
    with pytest.raises(SettingsError, match="percent-encoded") as caught:
        replace(VALID, db_url="postgres://u:hush%ZZ@h/d")
    assert "hush" not in str(caught.value)


def test_secrets_are_not_in_the_repr() -> None:
    assert "hush" not in repr(VALID)
    assert "aHVzaA" not in repr(VALID)


def test_both_schemes_of_a_database_url_are_accepted() -> None:
    assert replace(VALID, db_url="postgresql://h/d").max_cache_size == 2**30
