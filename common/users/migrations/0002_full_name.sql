-- What people call the user; '': nothing else than the name.
ALTER TABLE account ADD COLUMN full_name TEXT NOT NULL DEFAULT '';
