"""REST: routes and JSON derived from the protos, served over HTTP/1.1."""
