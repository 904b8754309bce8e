-- The versions and delete markers of the object are removed as well, in a bucket with versioning.
ALTER TABLE keys_to_delete ADD COLUMN purge_versions boolean NOT NULL DEFAULT false;
