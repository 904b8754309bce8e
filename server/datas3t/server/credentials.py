"""Encryption of stored credentials: AES-256-GCM under the SHA-256 of the encryption key, with a nonce per value."""

import base64
import binascii
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_SIZE = 12  # bytes, as GCM recommends
_KEY_SIZE = 32  # bytes of a new encryption key


class Cipher:
    """Encrypts and decrypts with one encryption key. Its repr does not show the key."""

    def __init__(self, encryption_key: str) -> None:
        """Take a key of at least one byte in base64. Raises ValueError if it is not one."""
        try:
            decoded = base64.b64decode(encryption_key.strip(), validate=True)
        except (binascii.Error, ValueError):
            decoded = b""
        if not decoded:
            raise ValueError("the encryption key must be base64 of at least one byte; `datas3t keygen` creates one")
        self._aes = AESGCM(hashlib.sha256(decoded).digest())

    def __repr__(self) -> str:
        return "Cipher(...)"

    def encrypt(self, text: str) -> str:
        """Return base64 of a random nonce, the ciphertext and its tag. It differs at each call."""
        nonce = os.urandom(_NONCE_SIZE)
        return base64.b64encode(nonce + self._aes.encrypt(nonce, text.encode(), None)).decode()

    def decrypt(self, stored: str) -> str:
        """Return the text that was encrypted. Raises ValueError if the key differs or the value was changed."""
        try:
            raw = base64.b64decode(stored, validate=True)
            return self._aes.decrypt(raw[:_NONCE_SIZE], raw[_NONCE_SIZE:], None).decode()
        except (InvalidTag, ValueError):
            raise ValueError("a stored credential cannot be decrypted with this encryption key") from None


def keygen() -> str:
    """Return a new encryption key: 32 random bytes in base64."""
    return base64.b64encode(os.urandom(_KEY_SIZE)).decode()
