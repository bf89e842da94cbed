-- key: the name in lower case. A name is given once: a deleted account keeps its row, so that
-- nobody else becomes the owner of what it left.
-- password: Argon2id, as libsodium writes it; '' of a deleted account.
-- generation: of its tokens; those of an earlier one are void.
CREATE TABLE account (
    key TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    password TEXT NOT NULL,
    generation BIGINT NOT NULL DEFAULT 1,
    created_ms BIGINT NOT NULL,
    deleted_ms BIGINT NOT NULL DEFAULT 0
);
