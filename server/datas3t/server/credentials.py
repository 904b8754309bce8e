"""Encryption of stored credentials: AES-256-GCM under the SHA-256 of an encryption key, with a nonce per value."""

import base64
import binascii
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_SIZE = 12  # bytes, as GCM recommends
_KEY_SIZE = 32  # bytes of a new encryption key


class Cipher:
    """Encrypts with the first of its encryption keys, and decrypts with all of them. Its repr shows none."""

    def __init__(self, encryption_keys: str) -> None:
        """Take keys of at least one byte in base64, with commas between. Raises ValueError if one is not such a key."""
        self._all = [AESGCM(hashlib.sha256(_decoded(each)).digest()) for each in encryption_keys.split(",")]

    def __repr__(self) -> str:
        return "Cipher(...)"

    def encrypt(self, text: str) -> str:
        """Return base64 of a random nonce, the ciphertext and its tag. It differs at each call."""
        nonce = os.urandom(_NONCE_SIZE)
        return base64.b64encode(nonce + self._all[0].encrypt(nonce, text.encode(), None)).decode()

    def decrypt(self, stored: str) -> str:
        """Return the text that was encrypted. Raises ValueError if no key fits or the value was changed."""
        for each in self._all:
            if (text := _decrypted(each, stored)) is not None:
                return text
        raise ValueError("a stored credential cannot be decrypted with this encryption key")

    def is_first(self, stored: str) -> bool:
        """Return whether a value was encrypted with the first key."""
        return _decrypted(self._all[0], stored) is not None


def _decoded(key: str) -> bytes:
    try:
        decoded = base64.b64decode(key.strip(), validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        raise ValueError("the encryption key must be base64 of at least one byte; `datas3t keygen` creates one")
    return decoded


def _decrypted(aes: AESGCM, stored: str) -> str | None:
    try:
        raw = base64.b64decode(stored, validate=True)
        return aes.decrypt(raw[:_NONCE_SIZE], raw[_NONCE_SIZE:], None).decode()
    except (InvalidTag, ValueError):
        return None


def keygen() -> str:
    """Return a new encryption key: 32 random bytes in base64."""
    return base64.b64encode(os.urandom(_KEY_SIZE)).decode()
