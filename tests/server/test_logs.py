"""The log's last line of defence: what looks like a secret does not get through, everything else does."""

import logging
from collections.abc import Iterator

import pytest

from datas3t.server import logs

URL = "http://s3.example/b/k.tar?X-Amz-Credential=AKIDEXAMPLE%2F2026&X-Amz-Signature=5d67cafe&x-id=GetObject"


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """Puts the loggers back as they were."""
    names = ("", "boto3", "botocore", "urllib3", "s3transfer", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    logging.getLogger().handlers = []  # configure closes those it finds
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers = handlers


@pytest.mark.parametrize(
    ("said", "secret"),
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
def test_secrets_are_struck_out(said: str, secret: str) -> None:
    assert secret in said
    assert secret not in logs.redacted(said)
    assert "***" in logs.redacted(said)


@pytest.mark.parametrize(
    "said",
    [
        "grpc datas3t.v1.BucketService/AddBucket OK 1.2 ms request_id=abc",
        "key 17 of datas3t 'x' is not there",
        "GET http://s3.example/b/datas3t/x/dataranges/1.tar?x-id=GetObject",
        "listening on http://127.0.0.1:8765",
    ],
)
def test_nothing_else_is_changed(said: str) -> None:
    assert logs.redacted(said) == said


def test_a_traceback_is_redacted_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    try:
        int(URL)
    except ValueError:
        logging.getLogger("some.package").exception("it failed")
    written = capsys.readouterr().err
    assert "it failed" in written
    assert "Traceback" in written
    assert "5d67cafe" not in written


def test_lines_have_time_level_and_name_and_obey_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning")
    logging.getLogger("datas3t.server.app").info("not this")
    logging.getLogger("datas3t.server.app").warning("this")
    written = capsys.readouterr().err
    assert written.endswith("Z WARNING datas3t.server.app this\n")
    assert "not this" not in written


def test_s3_libraries_stay_quiet_even_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")
    logging.getLogger("botocore.auth").debug("CanonicalRequest")
    logging.getLogger("urllib3.connectionpool").debug("GET /k?X-Amz-Signature=1")
    logging.getLogger("datas3t.server.app").debug("ours")
    written = capsys.readouterr().err
    assert "ours" in written
    assert "Canonical" not in written
    assert "GET /k" not in written
