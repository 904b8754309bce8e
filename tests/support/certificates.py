"""Certificates for tests: authorities, and what they sign for servers and clients."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from datas3t.server.settings import TlsFiles

_HOUR = datetime.timedelta(hours=1)
_PRIVATE = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)


def new_key(passphrase: bytes = b"") -> bytes:
    """Return a new private key as PEM."""
    return _pem(ec.generate_private_key(ec.SECP256R1()), passphrase)


class Authority:
    """A certificate authority; `pem` is its certificate."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.pem = self._signed(self._name, self._key, _HOUR, ca=True)

    def write(self, path: Path) -> Path:
        """Write the certificate of the authority to a file."""
        path.write_bytes(self.pem)
        return path

    def pair(self, folder: Path, name: str = "localhost", *, valid: datetime.timedelta = _HOUR) -> TlsFiles:
        """Write a certificate for a host, or of a client, and its key; a negative time has passed already."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        files = TlsFiles(folder / f"{name}.crt", folder / f"{name}.key")
        files.key.write_bytes(_pem(key))
        files.cert.write_bytes(self._signed(subject, key, valid))
        return files

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid: datetime.timedelta, *, ca: bool = False
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - 48 * _HOUR)
            .not_valid_after(now + valid)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        )
        if not ca:
            host = str(subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(*_PRIVATE, encryption)
