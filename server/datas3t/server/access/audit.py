"""The audit log: one JSON object in a line for each call that changes something, and for each one that is refused.

The lines go to the logger `datas3t.audit`: to a file of their own, or with the log.
"""

import json
import logging
import logging.handlers
import os
import time
from pathlib import Path
from typing import IO

from datas3t.server.access.identity import Identity
from datas3t.server.telemetry.logs import redacted

LOGGER = "datas3t.audit"
_MAX_TEXT = 255  # characters of a name
_log = logging.getLogger(__name__)


class Audit:
    """Writes the audit log, with the log unless `path` names a file.

    The file is opened again when it was renamed or removed, as programs that rotate logs do. Only its owner can read
    it.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._logger = logging.getLogger(LOGGER)
        self._logger.setLevel(logging.INFO)  # whatever the level of the log is
        self._handler = _File(path, encoding="utf-8") if path else None
        if self._handler is not None:
            self._handler.setFormatter(logging.Formatter("%(message)s"))
            self._logger.addHandler(self._handler)
            self._logger.propagate = False

    def close(self) -> None:
        """Close the file, and log with the log again."""
        if self._handler is not None:
            self._logger.removeHandler(self._handler)
            self._logger.propagate = True
            self._handler.close()

    def note(
        self,
        *,
        identity: Identity | None,
        method: str,
        transport: str,
        target: str,
        datas3t: str,
        request_id: str,
        peer: str,
        outcome: str,
    ) -> None:
        """Write a line. `identity` is None if the caller was not recognized.

        `datas3t` is what the call is about, or empty, and `target` the bucket or token that it is about, or empty.
        """
        now = time.time()
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z",
            "kind": identity.kind if identity else "",
            "token": identity.name[:_MAX_TEXT] if identity else "",
            "token_id": identity.token_id if identity else 0,
            "method": method,
            "transport": transport,
            "datas3t": datas3t[:_MAX_TEXT],
            "target": target[:_MAX_TEXT],
            "request_id": request_id,
            "peer": peer,
            "outcome": outcome,
        }
        # JSON in ASCII escapes whatever could forge a line.
        text = redacted(json.dumps(entry))
        self._logger.info("%s", text, extra={"fields": json.loads(text)})


class _File(logging.handlers.WatchedFileHandler):
    """A file that is opened again when its name is another file's. Errors of it are logged in one line."""

    def _open(self) -> IO[str]:  # type: ignore[override]
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return open(descriptor, "a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's names
        """Log that a line could not be written."""
        _log.exception("the audit log cannot be written: %s", self.baseFilename)
