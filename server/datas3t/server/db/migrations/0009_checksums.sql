-- The checksums of a datarange's datapoints are an object beside its archive. Null: there is none.
ALTER TABLE dataranges
    ADD COLUMN checksums_etag      text,
    ADD COLUMN checksums_added_at  timestamptz, -- if they were added after the datarange: a PUT may come as late as this
    ADD COLUMN extension           text;        -- of the names of all entries; null: they differ, or it is not known

ALTER TABLE datarange_uploads
    ADD COLUMN with_checksums  boolean NOT NULL DEFAULT false, -- the client sends them
    ADD COLUMN archive_crc32c  boolean NOT NULL DEFAULT false; -- S3 was asked for a checksum of the whole archive
ALTER TABLE aggregate_uploads ADD COLUMN with_checksums boolean NOT NULL DEFAULT false;

-- The store accepts a multipart upload that asks for a checksum of the whole object, and parts without one.
ALTER TABLE s3_buckets ADD COLUMN archive_crc32c boolean NOT NULL DEFAULT true;

-- Checksums that are added to a datarange. An intent like an upload.
CREATE TABLE checksums_uploads (
    id                    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    datas3t_id            bigint NOT NULL REFERENCES datas3ts,
    datarange_id          bigint NOT NULL, -- which may be deleted; that cancels a pending row
    first_key             bigint NOT NULL,
    last_key              bigint NOT NULL,
    data_object_key       text NOT NULL,
    checksums_object_key  text NOT NULL,
    state                 text NOT NULL DEFAULT 'pending',
    failure_reason        integer,
    failure_message       text,
    expires_at            timestamptz NOT NULL,
    created_at            timestamptz NOT NULL DEFAULT now(),
    finished_at           timestamptz,
    CONSTRAINT checksums_upload_states CHECK (state IN ('pending', 'completed', 'cancelled', 'failed'))
);

CREATE UNIQUE INDEX checksums_are_added_once_at_a_time ON checksums_uploads (datarange_id) WHERE state = 'pending';
CREATE INDEX pending_checksums_uploads ON checksums_uploads (expires_at) WHERE state = 'pending';
CREATE INDEX checksums_uploads_of_a_datas3t ON checksums_uploads (datas3t_id) WHERE state = 'pending';
CREATE INDEX finished_checksums_uploads ON checksums_uploads (finished_at) WHERE state <> 'pending';

-- How many dataranges have checksums, so that clearing says how many objects it deletes.
ALTER TABLE datas3ts ADD COLUMN checksums_count bigint NOT NULL DEFAULT 0;

-- As before, and it counts the dataranges with checksums.
CREATE OR REPLACE FUNCTION count_dataranges() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sign CONSTANT integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
    counted integer;
BEGIN
    UPDATE datas3ts AS d
       SET datarange_count = d.datarange_count + sign * changed.dataranges,
           datapoint_count = d.datapoint_count + sign * changed.datapoints,
           checksums_count = d.checksums_count + sign * changed.checksums,
           total_bytes = d.total_bytes + sign * changed.bytes,
           lowest_key = CASE
               WHEN sign > 0 THEN least(d.lowest_key, changed.lowest)
               WHEN changed.lowest > d.lowest_key THEN d.lowest_key
               ELSE (SELECT first_key FROM dataranges WHERE catalogue_id = d.catalogue_id
                      ORDER BY first_key LIMIT 1) END,
           highest_key = CASE
               WHEN sign > 0 THEN greatest(d.highest_key, changed.highest)
               WHEN changed.highest < d.highest_key THEN d.highest_key
               ELSE (SELECT last_key FROM dataranges WHERE catalogue_id = d.catalogue_id
                      ORDER BY last_key DESC LIMIT 1) END
      FROM (SELECT catalogue_id, count(*) AS dataranges, sum(last_key - first_key + 1::numeric) AS datapoints,
                   count(checksums_etag) AS checksums, sum(size_bytes) AS bytes, min(first_key) AS lowest,
                   max(last_key) AS highest
              FROM changed_rows GROUP BY catalogue_id) AS changed
     WHERE d.catalogue_id = changed.catalogue_id;
    GET DIAGNOSTICS counted = ROW_COUNT;
    IF sign > 0 AND counted < (SELECT count(DISTINCT catalogue_id) FROM changed_rows) THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'a datarange must be in the catalogue of a datas3t',
            CONSTRAINT = 'dataranges_are_in_the_catalogue_of_a_datas3t';
    END IF;
    RETURN NULL;
END $$;
