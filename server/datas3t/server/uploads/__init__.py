"""Uploads of archives, and of checksums for dataranges that have none."""

from datas3t.server.uploads.lifecycle import Started, cancel, complete, sign_parts, start

__all__ = ["Started", "cancel", "complete", "sign_parts", "start"]
