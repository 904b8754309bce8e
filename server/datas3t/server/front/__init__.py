"""The server's one port: gRPC, REST and the operators' pages."""
