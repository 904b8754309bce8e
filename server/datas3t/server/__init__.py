"""The datas3t server: gRPC and REST over a catalogue in PostgreSQL and archives in S3."""
