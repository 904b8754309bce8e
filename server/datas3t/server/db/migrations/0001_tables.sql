CREATE TABLE s3_buckets (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text COLLATE "C" NOT NULL CONSTRAINT bucket_names_are_unique UNIQUE,
    endpoint    text NOT NULL,
    bucket      text NOT NULL,
    region      text NOT NULL,
    access_key  text NOT NULL, -- encrypted, as is the secret key
    secret_key  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT a_bucket_is_configured_once UNIQUE (endpoint, bucket)
);

-- A deleted datas3t keeps its row, without a bucket: the upload counter goes on if the name comes back.
CREATE TABLE datas3ts (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text COLLATE "C" NOT NULL CONSTRAINT datas3t_names_are_unique UNIQUE,
    bucket_id       bigint CONSTRAINT buckets_in_use_stay REFERENCES s3_buckets,
    upload_counter  bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX datas3ts_by_bucket ON datas3ts (bucket_id);

-- The index expressions of the exclusion are the keys first - 1 up to last, half open: the same set shifted by one, which
-- also takes the greatest key. Queries that repeat both expressions use its index.
CREATE TABLE dataranges (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    datas3t_id          bigint NOT NULL CONSTRAINT datas3ts_with_dataranges_stay REFERENCES datas3ts,
    first_key           bigint NOT NULL,
    last_key            bigint NOT NULL,
    data_object_key     text NOT NULL,
    index_object_key    text NOT NULL,
    size_bytes          bigint NOT NULL,
    entries_size_bytes  bigint NOT NULL, -- where the end marker starts
    data_etag           text NOT NULL,
    index_etag          text NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT keys_are_in_order CHECK (0 <= first_key AND first_key <= last_key),
    CONSTRAINT object_keys_are_used_once UNIQUE (datas3t_id, data_object_key),
    CONSTRAINT dataranges_never_overlap EXCLUDE USING gist (
        int8range(datas3t_id, datas3t_id, '[]') WITH &&,
        int8range(first_key - 1, last_key) WITH &&
    )
);

CREATE INDEX dataranges_in_key_order ON dataranges (datas3t_id, first_key);
CREATE INDEX dataranges_by_last_key ON dataranges (datas3t_id, last_key);

-- An intent: written before anything is done in the bucket, so that the reaper knows all that may be lying about there.
-- Finished rows stay for a while, so that a repeated call gets the same answer.
CREATE TABLE datarange_uploads (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    datas3t_id        bigint NOT NULL REFERENCES datas3ts,
    first_key         bigint NOT NULL,
    last_key          bigint NOT NULL,
    data_size         bigint NOT NULL,
    data_object_key   text NOT NULL,
    index_object_key  text NOT NULL,
    part_size         bigint NOT NULL, -- of a direct PUT: data_size
    multipart         boolean NOT NULL,
    s3_upload_id      text,            -- of a multipart upload, once S3 has answered
    state             text NOT NULL DEFAULT 'pending',
    failure_reason    integer,         -- an ErrorReason, told again to whoever completes a failed upload
    failure_message   text,
    expires_at        timestamptz NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz,
    CONSTRAINT upload_states CHECK (state IN ('pending', 'completed', 'cancelled', 'failed')),
    CONSTRAINT upload_keys_are_in_order CHECK (0 <= first_key AND first_key <= last_key)
);

CREATE INDEX pending_uploads ON datarange_uploads (expires_at) WHERE state = 'pending';
CREATE INDEX uploads_of_a_datas3t ON datarange_uploads (datas3t_id) WHERE state = 'pending';
CREATE INDEX finished_uploads ON datarange_uploads (finished_at) WHERE state <> 'pending';

CREATE TABLE aggregate_uploads (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    datas3t_id        bigint NOT NULL REFERENCES datas3ts,
    first_key         bigint NOT NULL,
    last_key          bigint NOT NULL,
    data_size         bigint NOT NULL, -- the merged entries and an end marker of 1,024 bytes
    source_ids        bigint[] NOT NULL, -- dataranges, by first key
    planned           boolean NOT NULL,  -- made by the part plan; the server writes the index
    data_object_key   text NOT NULL,
    index_object_key  text NOT NULL,
    part_size         bigint NOT NULL, -- of a direct PUT: data_size; of a planned one: 0
    multipart         boolean NOT NULL,
    s3_upload_id      text,
    state             text NOT NULL DEFAULT 'pending',
    failure_reason    integer,
    failure_message   text,
    expires_at        timestamptz NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz,
    CONSTRAINT aggregate_states CHECK (state IN ('pending', 'completed', 'cancelled', 'failed')),
    CONSTRAINT aggregate_keys_are_in_order CHECK (0 <= first_key AND first_key <= last_key)
);

CREATE INDEX pending_aggregates ON aggregate_uploads (expires_at) WHERE state = 'pending';
CREATE INDEX aggregates_of_a_datas3t ON aggregate_uploads (datas3t_id) WHERE state = 'pending';
CREATE INDEX finished_aggregates ON aggregate_uploads (finished_at) WHERE state <> 'pending';

-- Objects that no row names any more. A row is claimed by moving due_at on for as long as the deletion may take, so that
-- no lock is held across a call to S3.
CREATE TABLE keys_to_delete (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bucket_id      bigint NOT NULL CONSTRAINT buckets_with_deletions_stay REFERENCES s3_buckets,
    object_key     text NOT NULL,
    multipart      boolean NOT NULL DEFAULT false, -- multipart uploads of the key are aborted as well
    due_at         timestamptz NOT NULL DEFAULT now(),
    due_since      timestamptz NOT NULL DEFAULT now(), -- when it first came due; the age of what is stuck
    look_again_at  timestamptz,        -- a PUT signed before may still come: delete once more when its URL has ended
    attempts       integer NOT NULL DEFAULT 0,
    last_error     text
);

CREATE INDEX keys_due ON keys_to_delete (due_at);
CREATE INDEX keys_by_object ON keys_to_delete (bucket_id, object_key);
