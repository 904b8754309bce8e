-- What a datas3t has, so that a listing reads one row for it. A trigger keeps these numbers right, because dataranges are
-- inserted and deleted by many statements. Every transaction that changes dataranges locks this row anyway.
ALTER TABLE datas3ts
    ADD COLUMN datarange_count  bigint NOT NULL DEFAULT 0,
    ADD COLUMN datapoint_count  numeric NOT NULL DEFAULT 0, -- all keys are one more than the greatest bigint
    ADD COLUMN total_bytes      numeric NOT NULL DEFAULT 0,
    ADD COLUMN lowest_key       bigint, -- null if there is none, as is the highest key
    ADD COLUMN highest_key      bigint;

UPDATE datas3ts AS d
   SET datarange_count = has.dataranges, datapoint_count = has.datapoints, total_bytes = has.bytes,
       lowest_key = has.lowest, highest_key = has.highest
  FROM (SELECT datas3t_id, count(*) AS dataranges, sum(last_key - first_key + 1::numeric) AS datapoints,
               sum(size_bytes) AS bytes, min(first_key) AS lowest, max(last_key) AS highest
          FROM dataranges GROUP BY datas3t_id) AS has
 WHERE d.id = has.datas3t_id;

-- Keys and size of a datarange never change.
CREATE FUNCTION count_dataranges() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sign CONSTANT integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    UPDATE datas3ts AS d
       SET datarange_count = d.datarange_count + sign * changed.dataranges,
           datapoint_count = d.datapoint_count + sign * changed.datapoints,
           total_bytes = d.total_bytes + sign * changed.bytes,
           lowest_key = CASE
               WHEN sign > 0 THEN least(d.lowest_key, changed.lowest)
               WHEN changed.lowest > d.lowest_key THEN d.lowest_key
               ELSE (SELECT first_key FROM dataranges WHERE datas3t_id = d.id ORDER BY first_key LIMIT 1) END,
           highest_key = CASE
               WHEN sign > 0 THEN greatest(d.highest_key, changed.highest)
               WHEN changed.highest < d.highest_key THEN d.highest_key
               ELSE (SELECT last_key FROM dataranges WHERE datas3t_id = d.id ORDER BY last_key DESC LIMIT 1) END
      FROM (SELECT datas3t_id, count(*) AS dataranges, sum(last_key - first_key + 1::numeric) AS datapoints,
                   sum(size_bytes) AS bytes, min(first_key) AS lowest, max(last_key) AS highest
              FROM changed_rows GROUP BY datas3t_id) AS changed
     WHERE d.id = changed.datas3t_id;
    RETURN NULL;
END $$;

CREATE TRIGGER dataranges_are_counted AFTER INSERT ON dataranges
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION count_dataranges();
CREATE TRIGGER deleted_dataranges_are_counted AFTER DELETE ON dataranges
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION count_dataranges();

-- Deleted datas3ts keep their rows, which a listing does not read.
CREATE INDEX datas3ts_that_exist ON datas3ts (name) WHERE bucket_id IS NOT NULL;

-- Keys with a prefix are a range of this index, in the order of their bytes.
ALTER TABLE keys_to_delete ALTER COLUMN object_key TYPE text COLLATE "C";

-- For the metrics, which count a bounded number of rows.
CREATE INDEX keys_due_since ON keys_to_delete (due_since);
CREATE INDEX failing_keys ON keys_to_delete (due_since) WHERE attempts > 0;
