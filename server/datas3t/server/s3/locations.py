"""Where a bucket is."""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket at an endpoint (scheme, host and port), and the credentials for it, which its repr hides.

    Signed URLs name `public_endpoint`, by which clients reach the bucket; if it is empty, the endpoint.
    """

    endpoint: str
    bucket: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    public_endpoint: str = ""

    @property
    def public(self) -> "Location":
        """The location as clients reach it."""
        return replace(self, endpoint=self.public_endpoint) if self.public_endpoint else self
