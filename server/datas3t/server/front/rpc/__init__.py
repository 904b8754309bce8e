"""gRPC: one servicer per service (translation only), the interceptor and the gRPC server."""
