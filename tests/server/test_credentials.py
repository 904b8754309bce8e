"""Encryption of stored credentials, with the bytes that the documentation describes."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from datas3t.server.credentials import Cipher, keygen


@given(st.binary(min_size=1, max_size=100), st.text())
def test_encrypted_text_is_decrypted_with_keys_of_any_length(key: bytes, text: str) -> None:
    cipher = Cipher(base64.b64encode(key).decode())
    assert cipher.decrypt(cipher.encrypt(text)) == text


def test_the_stored_value_is_nonce_ciphertext_and_tag_under_the_hash_of_the_key() -> None:
    stored = base64.b64decode(Cipher("a2V5").encrypt("secret"), validate=True)
    assert len(stored) == 12 + len("secret") + 16
    aes = AESGCM(hashlib.sha256(b"key").digest())
    assert aes.decrypt(stored[:12], stored[12:], None) == b"secret"


def test_the_same_text_is_encrypted_differently_each_time() -> None:
    cipher = Cipher(keygen())
    assert len({cipher.encrypt("same") for _ in range(100)}) == 100


@pytest.mark.parametrize("key", ["", " ", "====", "not base64!", "YQ"])
def test_an_invalid_key_is_an_error(key: str) -> None:
    with pytest.raises(ValueError, match="must be base64 of at least one byte"):
        Cipher(key)


@pytest.mark.parametrize(
    "change", [lambda raw: raw[:-1], lambda raw: raw[:5], lambda raw: b"", lambda raw: bytes([raw[0] ^ 1]) + raw[1:]]
)
def test_another_key_or_a_changed_value_is_an_error(change: object) -> None:
    stored = Cipher("YQ==").encrypt("secret")
    with pytest.raises(ValueError, match="cannot be decrypted"):
        Cipher("Yg==").decrypt(stored)
    changed = base64.b64encode(change(base64.b64decode(stored))).decode()  # type: ignore[operator]
    with pytest.raises(ValueError, match="cannot be decrypted"):
        Cipher("YQ==").decrypt(changed)


def test_the_repr_of_a_cipher_does_not_show_its_key() -> None:
    key = keygen()
    assert key not in repr(Cipher(key))
    assert len(base64.b64decode(key, validate=True)) == 32


def test_the_first_of_several_keys_encrypts_and_all_decrypt() -> None:
    old, new = keygen(), keygen()
    stored = Cipher(old).encrypt("secret")
    ring = Cipher(f"{new}, {old}\n")
    assert ring.decrypt(stored) == "secret"
    assert not ring.is_first(stored)
    written = ring.encrypt("secret")
    assert ring.is_first(written)
    assert Cipher(new).decrypt(written) == "secret"
    with pytest.raises(ValueError, match="cannot be decrypted"):
        Cipher(old).decrypt(written)


@pytest.mark.parametrize("keys", ["a2V5,", ",a2V5", "a2V5,,a2V5", "a2V5,not base64!"])
def test_an_invalid_key_among_several_is_an_error_that_shows_none(keys: str) -> None:
    with pytest.raises(ValueError, match="must be base64 of at least one byte") as caught:
        Cipher(keys)
    assert "a2V5" not in str(caught.value)
