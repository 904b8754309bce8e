"""Where a bucket is, and the credentials for it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket of an endpoint (scheme, host and port alone). Its repr shows no credential."""

    endpoint: str
    bucket: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
