-- Files of tables. An upload of one has the id that the file gets.
CREATE SEQUENCE table_file_ids;

-- An intent, as those of archives: one object, in one PUT.
CREATE TABLE table_uploads (
    id               bigint PRIMARY KEY DEFAULT nextval('table_file_ids'),
    datas3t_id       bigint NOT NULL REFERENCES datas3ts,
    table_name       text COLLATE "C" NOT NULL,
    first_key        bigint NOT NULL,
    last_key         bigint NOT NULL,
    counter          bigint NOT NULL,
    data_size        bigint NOT NULL,
    data_object_key  text NOT NULL,
    replaces         bigint[] NOT NULL, -- files whose place it takes
    state            text NOT NULL DEFAULT 'pending',
    failure_reason   integer,
    failure_message  text,
    expires_at       timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    finished_at      timestamptz,
    CONSTRAINT table_upload_states CHECK (state IN ('pending', 'completed', 'cancelled', 'failed')),
    CONSTRAINT table_upload_keys_are_in_order CHECK (0 <= first_key AND first_key <= last_key)
);

CREATE INDEX pending_table_uploads ON table_uploads (expires_at) WHERE state = 'pending';
CREATE INDEX uploads_of_a_table ON table_uploads (datas3t_id, table_name) WHERE state = 'pending';
CREATE INDEX finished_table_uploads ON table_uploads (finished_at) WHERE state <> 'pending';

-- The files of a catalogue go with it, as its dataranges do. They may overlap.
CREATE TABLE table_files (
    id            bigint PRIMARY KEY DEFAULT nextval('table_file_ids'),
    catalogue_id  bigint NOT NULL,
    table_name    text COLLATE "C" NOT NULL,
    first_key     bigint NOT NULL,
    last_key      bigint NOT NULL,
    counter       bigint NOT NULL, -- for one key, the row in the file with the greatest one counts
    object_key    text NOT NULL,
    size_bytes    bigint NOT NULL,
    etag          text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT table_file_keys_are_in_order CHECK (0 <= first_key AND first_key <= last_key),
    CONSTRAINT files_of_a_table_have_counters_of_their_own UNIQUE (catalogue_id, table_name, counter)
);
ALTER SEQUENCE table_file_ids OWNED BY table_files.id;

-- The expressions are those of the exclusion in 0001.
CREATE INDEX table_files_by_keys ON table_files USING gist (
    int8range(catalogue_id, catalogue_id, '[]'), int8range(first_key - 1, last_key));

ALTER TABLE table_files ALTER COLUMN catalogue_id SET (n_distinct = 1); -- as in 0008

-- How many files the tables of a datas3t have. A trigger keeps the number, as those of dataranges.
ALTER TABLE datas3ts ADD COLUMN table_file_count bigint NOT NULL DEFAULT 0;

CREATE FUNCTION count_table_files() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sign CONSTANT integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
    counted integer;
BEGIN
    UPDATE datas3ts AS d SET table_file_count = d.table_file_count + sign * changed.files
      FROM (SELECT catalogue_id, count(*) AS files FROM changed_rows GROUP BY catalogue_id) AS changed
     WHERE d.catalogue_id = changed.catalogue_id;
    GET DIAGNOSTICS counted = ROW_COUNT;
    IF sign > 0 AND counted < (SELECT count(DISTINCT catalogue_id) FROM changed_rows) THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'a table file must be in the catalogue of a datas3t',
            CONSTRAINT = 'table_files_are_in_the_catalogue_of_a_datas3t';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER table_files_are_counted AFTER INSERT ON table_files
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION count_table_files();
CREATE TRIGGER deleted_table_files_are_counted AFTER DELETE ON table_files
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION count_table_files();
