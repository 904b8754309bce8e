"""The trusted CA certificates: those that the environment names, otherwise the system's."""

import os
import ssl
from pathlib import Path
from typing import NamedTuple

_VARIABLES = ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# The paths of CA bundles on common systems. The libcurl in pycurl's wheel only uses that of Red Hat.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class Trusted(NamedTuple):
    """A file or folder of CA certificates, and the variable that names it ("" for the certificates of the system)."""

    path: str
    variable: str

    def __str__(self) -> str:
        return f"{self.path}, named by {self.variable}," if self.variable else self.path


def ca_bundle() -> Trusted | None:
    """Return the trusted certificates: those of the first variable that is set, otherwise the system's file."""
    for name in _VARIABLES:
        if path := os.environ.get(name):
            return Trusted(path, name)
    usual = system_bundle()
    return Trusted(usual, "") if usual else None


def system_bundle() -> str | None:
    """Return the system's file of certificates, or None if none of the known paths exists."""
    places = (ssl.get_default_verify_paths().cafile, *_BUNDLES)
    return next((path for path in places if path and Path(path).is_file()), None)
