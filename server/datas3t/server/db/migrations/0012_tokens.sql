-- Tokens of callers. Of their secrets only a hash is stored. Rows stay when a token is revoked or has expired.
CREATE TABLE api_tokens (
    id             bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name           text COLLATE "C" NOT NULL,
    secret_sha256  bytea NOT NULL,
    role           text NOT NULL,
    pattern        text NOT NULL DEFAULT '*',
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz,
    last_used_at   timestamptz,
    revoked_at     timestamptz, -- also when another token takes the name of one that has expired
    CONSTRAINT token_roles CHECK (role IN ('read', 'write', 'manage', 'admin')),
    CONSTRAINT tokens_of_admins_are_for_all_datas3ts CHECK (role <> 'admin' OR pattern = '*'),
    CONSTRAINT token_secrets_are_hashed CHECK (octet_length(secret_sha256) = 32)
);

CREATE UNIQUE INDEX names_of_live_tokens_are_unique ON api_tokens (name) WHERE revoked_at IS NULL;
CREATE INDEX api_tokens_by_name ON api_tokens (name);
