-- Keys that the server hands out. `next_key` is above all keys that were ever used or handed out. It is never lowered: a
-- datas3t that is deleted keeps it with its row, as it keeps the counter. After the greatest key it exceeds a bigint.
-- `last_reserved_key` is the greatest key handed out. It changes with each reservation, so an upload that waited for
-- this row notices one that it has not seen.
ALTER TABLE datas3ts
    ADD COLUMN next_key           numeric(20) NOT NULL DEFAULT 1,
    ADD COLUMN last_reserved_key  bigint NOT NULL DEFAULT -1;

UPDATE datas3ts AS d
   SET next_key = greatest(1, 1 + greatest(
           highest_key::numeric,
           (SELECT max(last_key) FROM datarange_uploads WHERE datas3t_id = d.id),
           (SELECT max(r.last_key) FROM cleared_catalogues AS c JOIN dataranges AS r ON r.catalogue_id = c.id
             WHERE c.datas3t_id = d.id)));

-- Keys that belong to whoever reserved them, until all of them are datapoints or the row expires. Deleting datapoints
-- gives their keys back to the reservation while it exists.
CREATE TABLE key_reservations (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    datas3t_id  bigint NOT NULL REFERENCES datas3ts,
    request_id  text COLLATE "C" NOT NULL,
    first_key   bigint NOT NULL,
    last_key    bigint NOT NULL,
    keys_left   bigint NOT NULL, -- keys without a datapoint; at 0 the reservation has ended
    expires_at  timestamptz NOT NULL,
    CONSTRAINT a_request_reserves_keys_once UNIQUE (datas3t_id, request_id),
    CONSTRAINT reserved_keys_are_in_order CHECK (0 <= first_key AND first_key <= last_key),
    CONSTRAINT reservations_never_overlap EXCLUDE USING gist (
        int8range(datas3t_id, datas3t_id, '[]') WITH &&,
        int8range(first_key - 1, last_key) WITH &&
    )
);

CREATE INDEX reservations_by_last_key ON key_reservations (datas3t_id, last_key) WHERE keys_left > 0;
CREATE INDEX reservations_that_expire ON key_reservations (expires_at);
CREATE INDEX reservations_that_are_used_up ON key_reservations (id) WHERE keys_left = 0;

-- The reservation whose keys the upload has. It may end before the upload does.
ALTER TABLE datarange_uploads ADD COLUMN reservation_id bigint;
