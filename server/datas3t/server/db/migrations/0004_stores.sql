-- Ways in which a store differs from Amazon's, each noticed when it refused a request.
ALTER TABLE s3_buckets ADD COLUMN equal_parts boolean NOT NULL DEFAULT false; -- all parts but the last have one size
ALTER TABLE s3_buckets ADD COLUMN bulk_delete boolean NOT NULL DEFAULT true;  -- it knows DeleteObjects

-- When S3 was last asked to join the parts: written before it is asked. The outcome is unknown until the object is there.
ALTER TABLE datarange_uploads ADD COLUMN completion_sent_at timestamptz;
ALTER TABLE aggregate_uploads ADD COLUMN completion_sent_at timestamptz;

-- Of the multipart upload to abort, for stores that cannot list them.
ALTER TABLE keys_to_delete ADD COLUMN s3_upload_id text;
