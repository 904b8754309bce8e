-- The dataranges of a datas3t are its catalogue. Clearing gives it a new one: so all dataranges are gone for readers at
-- once, and new ones cannot overlap the old. The rows of the old catalogue are then deleted in batches.
CREATE SEQUENCE catalogue_ids;
ALTER TABLE datas3ts ADD COLUMN catalogue_id bigint;
UPDATE datas3ts SET catalogue_id = id;
SELECT setval('catalogue_ids', (SELECT coalesce(max(id), 0) + 1 FROM datas3ts), false);
ALTER TABLE datas3ts
    ALTER COLUMN catalogue_id SET DEFAULT nextval('catalogue_ids'),
    ALTER COLUMN catalogue_id SET NOT NULL,
    ADD CONSTRAINT a_catalogue_has_one_datas3t UNIQUE (catalogue_id);
ALTER SEQUENCE catalogue_ids OWNED BY datas3ts.catalogue_id;

ALTER TABLE dataranges DROP CONSTRAINT datas3ts_with_dataranges_stay;
ALTER TABLE dataranges RENAME COLUMN datas3t_id TO catalogue_id;

-- Statements look up the catalogue, so the planner does not know which one it is. It would expect as many dataranges as
-- there are on average, and sort all of a large datas3t for each page of it. So it is told to expect the largest one.
ALTER TABLE dataranges ALTER COLUMN catalogue_id SET (n_distinct = 1);
ANALYZE dataranges;

-- Catalogues whose dataranges are still to be deleted, up to `deleted_key` in the order of their first keys they are.
CREATE TABLE cleared_catalogues (
    id              bigint PRIMARY KEY,
    datas3t_id      bigint NOT NULL REFERENCES datas3ts,
    bucket_id       bigint NOT NULL CONSTRAINT buckets_with_deletions_stay REFERENCES s3_buckets,
    last_put        interval NOT NULL, -- how long after its commit a PUT of a datarange's upload can arrive
    purge_versions  boolean NOT NULL DEFAULT false,
    deleted_key     bigint NOT NULL DEFAULT -1
);

CREATE INDEX cleared_catalogues_of_a_datas3t ON cleared_catalogues (datas3t_id);
CREATE INDEX cleared_catalogues_in_a_bucket ON cleared_catalogues (bucket_id);

-- As before, but by the catalogue; and an insert into one that is no datas3t's is refused.
CREATE OR REPLACE FUNCTION count_dataranges() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sign CONSTANT integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
    counted integer;
BEGIN
    UPDATE datas3ts AS d
       SET datarange_count = d.datarange_count + sign * changed.dataranges,
           datapoint_count = d.datapoint_count + sign * changed.datapoints,
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
                   sum(size_bytes) AS bytes, min(first_key) AS lowest, max(last_key) AS highest
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
