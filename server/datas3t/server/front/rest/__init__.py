"""REST over HTTP/1.1: routes and JSON are derived from the protos."""
