"""Calls to the datas3t server: the gRPC channel, retries, URL renewal, and one module for each service."""
