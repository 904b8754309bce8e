"""The log removes anything that looks like a secret, and nothing else."""

import json
import logging
from collections.abc import Iterator

import pytest

from datas3t.server.telemetry import logs

URL = "http://s3.example/b/k.tar?X-Amz-Credential=AKIDEXAMPLE%2F2026&X-Amz-Signature=5d67cafe&x-id=GetObject"


@pytest.fixture(autouse=True)
def _restored_loggers() -> Iterator[None]:
    """Restore the loggers after each test."""
    names = ("", "boto3", "botocore", "urllib3", "s3transfer", "asyncio", "grpc")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    logging.getLogger().handlers = []  # `configure` closes the handlers that it finds, pytest's among them
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers = handlers


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"GET {URL} failed", "5d67cafe"),
        (f"GET {URL} failed", "AKIDEXAMPLE"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=AKID/2026, SignedHeaders=host, Signature=5d67cafe", "5d67cafe"),
        ("connecting to postgres://me:hush@db:5432/x", "hush"),
        ("connecting to postgresql://me:hush@db/x", "hush"),
        ("password=hush host=db", "hush"),
        ("{'secret_key': 'hush', 'name': 'b'}", "hush"),
        ('{"access_key": "hush"}', "hush"),
        ("ENCRYPTION_KEY=hush", "hush"),
        ("aws_secret_access_key = hush", "hush"),
        ("the key AKIAIOSFODNN7EXAMPLE was refused", "AKIAIOSFODNN7EXAMPLE"),
    ],
)
def test_secrets_are_redacted(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in logs.redacted(text)
    assert "***" in logs.redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "grpc datas3t.v1.BucketService/AddBucket OK 1.2 ms request_id=abc",
        "datas3t 'x' has no key 17",
        "GET http://s3.example/b/datas3t/x/dataranges/1.tar?x-id=GetObject",
        "listening on http://127.0.0.1:8765",
    ],
)
def test_nothing_else_is_changed(text: str) -> None:
    assert logs.redacted(text) == text


def test_secrets_in_a_traceback_are_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    try:
        int(URL)
    except ValueError:
        logging.getLogger("some.package").exception("it failed")
    written = capsys.readouterr().err
    assert "it failed" in written
    assert "Traceback" in written
    assert "5d67cafe" not in written


def test_lines_have_time_level_and_name_and_follow_the_configured_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning")
    logging.getLogger("datas3t.server.app").info("too low")
    logging.getLogger("datas3t.server.app").warning("high enough")
    written = capsys.readouterr().err
    assert written.endswith("Z WARNING datas3t.server.app high enough\n")
    assert "too low" not in written


def test_the_s3_libraries_do_not_log_requests_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")
    logging.getLogger("botocore.auth").debug("CanonicalRequest")
    logging.getLogger("urllib3.connectionpool").debug("GET /k?X-Amz-Signature=1")
    logging.getLogger("datas3t.server.app").debug("our own")
    written = capsys.readouterr().err
    assert "our own" in written
    assert "Canonical" not in written
    assert "GET /k" not in written


FOREIGN = "x\n2026-01-01T00:00:00Z ERROR forged\r\x1b[2J\u202e\x7f"


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("object %s", (FOREIGN,)),
        ("object %r", (FOREIGN,)),
        ("failed: %s", (ValueError(FOREIGN),)),
        ("object %(name)s", ({"name": FOREIGN},)),
        (f"object {FOREIGN}", ()),
    ],
)
def test_no_text_from_elsewhere_forges_a_line_or_changes_the_terminal(
    capsys: pytest.CaptureFixture[str], message: str, arguments: tuple[object, ...]
) -> None:
    for style in ("text", "json"):
        logs.configure("info", style)
        logging.getLogger("datas3t.server").info(message, *arguments)
        written = capsys.readouterr().err
        assert "forged" in written
        assert "\n2026" not in written
        assert not {"\r", "\x1b", "\x7f", "\u202e"} & set(written)


def test_a_traceback_is_shown_as_lines_that_belong_to_the_entry_above(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    try:
        int(FOREIGN)
    except ValueError:
        logging.getLogger("datas3t.server").exception("number %d failed\n%s", 7, logs.Lines("first\nsecond"))
    first, *others = capsys.readouterr().err.splitlines()
    assert first.endswith("ERROR datas3t.server number 7 failed")
    assert others[:3] == ["    first", "    second", "    Traceback (most recent call last):"]
    assert all(line.startswith("    ") for line in others)


def test_json_has_an_object_in_each_line_with_the_fields_of_the_entry(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    log = logging.getLogger("datas3t.server.calls")
    log.info("rest %s", "x\ny\u202e", extra={"fields": {"request_id": "abc", "seconds": 0.0015, "level": "forged"}})
    try:
        raise ValueError("X-Amz-Signature=0123")
    except ValueError:
        log.exception("password=hush")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first.pop("ts").endswith("Z")
    assert first == {
        "level": "info",
        "logger": "datas3t.server.calls",
        "message": "rest x\ny\u202e",
        "request_id": "abc",
        "seconds": 0.0015,
    }
    assert "ValueError" in second["message"]
    assert "hush" not in second["message"]
    assert "0123" not in second["message"]
