-- seq: when it was uploaded, in microseconds since 1970; a later number than any before it.
-- labels: [["golden retriever", 0.93], ...], best first; tags: ["holiday", ...], the owner's.
-- label_due_ms: when to look for a result; NULL: it is known, or will not come.
-- deleted_ms: when DELETE came; the row goes after its object.
CREATE TABLE image (
    seq BIGINT PRIMARY KEY,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    format TEXT NOT NULL,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    sealed BIGINT NOT NULL DEFAULT 0,
    label TEXT NOT NULL DEFAULT '',
    confidence DOUBLE PRECISION NOT NULL DEFAULT 0,
    labels TEXT NOT NULL DEFAULT '[]',
    tags TEXT NOT NULL DEFAULT '[]',
    note TEXT NOT NULL DEFAULT '',
    views BIGINT NOT NULL DEFAULT 0,
    label_due_ms BIGINT,
    deleted_ms BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX image_of_id ON image (id, owner);
CREATE INDEX image_of_owner ON image (owner, seq) WHERE owner <> '';
CREATE INDEX image_of_owner_label ON image (owner, label, seq) WHERE owner <> '' AND label <> '';
CREATE INDEX image_of_label ON image (label, seq) WHERE label <> '';
CREATE INDEX image_label_due ON image (label_due_ms) WHERE label_due_ms IS NOT NULL;
CREATE INDEX image_deleted ON image (deleted_ms) WHERE deleted_ms > 0;

-- Labels and tags of both kinds, to search by.
CREATE TABLE image_tag (
    tag TEXT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (tag, seq)
) @by_key@;

-- rebuild: 1 until the store was walked.
CREATE TABLE catalogue_meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO catalogue_meta VALUES ('rebuild', 1);
