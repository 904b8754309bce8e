-- The endpoint that signed URLs name, for clients that reach S3 by another address than the server. Empty: the endpoint.
ALTER TABLE s3_buckets ADD COLUMN public_endpoint text NOT NULL DEFAULT '';
