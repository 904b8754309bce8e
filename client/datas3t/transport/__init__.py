"""The data-plane engine: HTTP requests to S3 over libcurl, for the client and the server."""
