-- The object was deleted once. The row stays for a second look, because a PUT that was signed before may still come.
ALTER TABLE keys_to_delete ADD COLUMN second_look boolean NOT NULL DEFAULT false;
