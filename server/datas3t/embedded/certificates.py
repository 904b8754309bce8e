"""Certificates for the gRPC ports of SeaweedFS, which refuse every client without one.

They are created at every start, so they do not expire, and the key of the authority that signs them is not stored.
"""

from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from datas3t.local import atomic

# Always valid, so that a wrong clock does not make SeaweedFS refuse its own certificates.
_NOT_BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
_NOT_AFTER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # "never", as RFC 5280 spells it

_SECTIONS = ("master", "volume", "filer", "s3", "client", "admin", "worker", "mq", "msg_broker", "msg_agent")


def write_security(folder: Path) -> None:
    """Write `security.toml`, where weed looks for it in its working directory, and new certificates next to it.

    Only their owner can read them. The file names them relative to the directory, whose path may have any characters.
    """
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("datas3t up, authority")
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, SHA256())
    )
    addresses = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _builder(_name("datas3t up"), authority_name, key.public_key())
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(authority_key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    sections = [f'[grpc.{name}]\ncert = "grpc.pem"\nkey = "grpc.key"\n' for name in _SECTIONS]
    atomic.write(folder / "grpc-ca.pem", authority.public_bytes(Encoding.PEM))
    atomic.write(folder / "grpc.pem", certificate.public_bytes(Encoding.PEM))
    atomic.write(folder / "grpc.key", private)
    atomic.write(folder / "security.toml", ('[grpc]\nca = "grpc-ca.pem"\n' + "".join(sections)).encode())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
    )
