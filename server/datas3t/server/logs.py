"""The log: one line per event to standard error, and a last line of defence against secrets in it."""

import logging
import re
import sys
import time

_LEVEL_OF = {
    "boto3": "WARNING",
    "botocore": "WARNING",
    "urllib3": "WARNING",
    "s3transfer": "WARNING",
    "asyncio": "WARNING",
    "aiohttp.server": "CRITICAL",  # it repeats what clients sent; what is a defect of ours is logged by us
}

# No code logs any of these. Should some library's message carry one, it ends here.
_SECRETS = (
    (re.compile(r"(?i)\b(X-Amz-[A-Za-z-]+)=[^&\s\"'<>)]*"), r"\1=***"),
    (re.compile(r"(?i)\b(Signature|Credential|AWSAccessKeyId)=[^&\s\"',<>)]*"), r"\1=***"),
    (re.compile(r"(?i)\b(postgres(?:ql)?://)[^\s\"'/@]*@"), r"\1***@"),
    (
        re.compile(
            r"(?i)(?<![a-z])(password|passwd|secret[_-]?(?:access[_-]?)?key|access[_-]?key(?:[_-]?id)?|encryption[_-]?key)"
            r"([\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;)]+"
        ),
        r"\1\2***",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "***"),
)


def configure(level: str = "info") -> None:
    """Sends everything to standard error from `level` (debug, info, warning, error) on, in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redacting("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%SZ"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, lowest in _LEVEL_OF.items():
        logging.getLogger(name).setLevel(lowest)


class Redacting(logging.Formatter):
    """Formats a record, tracebacks included, and strikes out what looks like a secret."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def redacted(text: str) -> str:
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text
