"""gRPC: the server, its interceptor, and one servicer per service, which only translates messages."""
