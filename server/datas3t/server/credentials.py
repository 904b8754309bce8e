"""Credentials at rest: AES-256-GCM under the SHA-256 of the encryption key, each value with a nonce of its own."""

import base64
import binascii
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_SIZE = 12
_KEY_SIZE = 32


class Cipher:
    """Encrypts and decrypts under one key, which is base64 of one byte at least. Raises ValueError for another."""

    def __init__(self, encryption_key: str) -> None:
        try:
            decoded = base64.b64decode(encryption_key.strip(), validate=True)
        except (binascii.Error, ValueError):
            decoded = b""
        if not decoded:
            raise ValueError("the encryption key must be base64 of at least one byte; `datas3t keygen` makes one")
        self._aes = AESGCM(hashlib.sha256(decoded).digest())

    def __repr__(self) -> str:
        return "Cipher(...)"

    def encrypt(self, text: str) -> str:
        """Base64 of the nonce, the ciphertext and its tag: another one each time."""
        nonce = os.urandom(_NONCE_SIZE)
        return base64.b64encode(nonce + self._aes.encrypt(nonce, text.encode(), None)).decode()

    def decrypt(self, stored: str) -> str:
        """What was encrypted. Raises ValueError where the key is another one, or the value was changed."""
        try:
            raw = base64.b64decode(stored, validate=True)
            return self._aes.decrypt(raw[:_NONCE_SIZE], raw[_NONCE_SIZE:], None).decode()
        except (InvalidTag, ValueError):
            raise ValueError("a stored credential cannot be decrypted with this encryption key") from None


def keygen() -> str:
    """A new encryption key: 32 random bytes in base64."""
    return base64.b64encode(os.urandom(_KEY_SIZE)).decode()
