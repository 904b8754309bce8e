"""What the stack must not forget: the encryption key, the database's password, the keys of S3. Made once."""

import base64
import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from datas3t.local import atomic


@dataclass(frozen=True)
class Secrets:
    encryption_key: str = field(repr=False)
    db_password: str = field(repr=False)
    s3_access_key: str = field(repr=False)
    s3_secret_key: str = field(repr=False)


def file_in(folder: Path) -> Path:
    return folder / "secrets.json"


def of(folder: Path) -> Secrets:
    """The folder's secrets, made at the first call."""
    file = file_in(folder)
    if file.exists():
        return Secrets(**json.loads(file.read_text()))
    made = Secrets(
        encryption_key=base64.b64encode(secrets.token_bytes(32)).decode(),
        db_password=secrets.token_hex(24),
        s3_access_key=secrets.token_hex(10),
        s3_secret_key=secrets.token_hex(20),
    )
    write_private(file, asdict(made))
    return made


def write_private(file: Path, content: object) -> None:
    """Writes JSON that only its owner may read; it appears whole or not at all."""
    atomic.write(file, (json.dumps(content, indent=2) + "\n").encode(), durable=True)
