"""Calls to the datas3t server: the gRPC channel, retries, and one module per service."""
