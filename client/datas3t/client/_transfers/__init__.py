"""Transfers between files and S3 that resume after a crash: uploads, downloads and aggregates."""
