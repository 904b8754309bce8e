"""Uploads: from StartUpload to a committed datarange."""
