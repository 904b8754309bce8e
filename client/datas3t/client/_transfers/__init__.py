"""Transfers between local files and S3: uploads, downloads and aggregates, which can be resumed after a crash."""
