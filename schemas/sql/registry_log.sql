-- The embedded metadata store, first part: the log of dossiers. It is the truth; registry_index.sql is made from it.

-- Versions of what is stored: log_version, index_version, index_generation.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per dossier: the patient, and the head of the dossier's log.
CREATE TABLE patients (
    id INTEGER PRIMARY KEY,
    patient_id TEXT NOT NULL UNIQUE,  -- CX
    sequence INTEGER NOT NULL,        -- of the last record
    hash BLOB NOT NULL,               -- of the last record
    objects INTEGER NOT NULL          -- how many object numbers are given out
) STRICT;

-- One row per change. A dossier's records lie side by side.
CREATE TABLE changes (
    id INTEGER PRIMARY KEY,           -- patients.id << 24 | sequence
    change_id TEXT NOT NULL,
    time TEXT NOT NULL,
    body BLOB,                        -- zstd; NULL where it was blanked as a whole
    body_hash BLOB NOT NULL,
    previous_hash BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
