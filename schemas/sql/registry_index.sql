-- The embedded metadata store, second part: the index of the log. `toimik reindex` writes all of it again.
--
-- Columns are those of registry/search_columns.py. A time is two columns, its first and its last second. A column with
-- several values is a JSON array with every element on a line of its own, so that an element is found by instr().
-- An object's id is patients.id << 24 | its number within the dossier: a dossier's objects lie side by side, in the
-- order in which they were registered. Numbers are shared by the four kinds. ebrim is the rendering, zstd.

-- Names that are given out once: entryUUIDs, and uniqueIds of SubmissionSets and Folders (of all versions once).
-- They stay when the object is removed; then there is no row of that id.
CREATE TABLE identifiers (
    identifier TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    object INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What feeds said of patients: those that are known, and into which one a patient was merged.
CREATE TABLE patient_identities (
    patient_id TEXT PRIMARY KEY,
    merged_into TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX patient_identities_by_merged_into ON patient_identities (merged_into) WHERE merged_into IS NOT NULL;

CREATE TABLE document_entries (
    id INTEGER PRIMARY KEY,
    entry_uuid TEXT NOT NULL,
    logical_id TEXT,
    version TEXT,
    availability_status TEXT,
    unique_id TEXT,
    object_type TEXT,
    document_availability TEXT,
    repository_unique_id TEXT,
    class_code TEXT,
    type_code TEXT,
    practice_setting_code TEXT,
    healthcare_facility_type_code TEXT,
    format_code TEXT,
    confidentiality_code TEXT NOT NULL,
    event_code_list TEXT NOT NULL,
    creation_time_first TEXT,
    creation_time_last TEXT,
    service_start_time_first TEXT,
    service_start_time_last TEXT,
    service_stop_time_first TEXT,
    service_stop_time_last TEXT,
    service_period_first TEXT,
    service_period_last TEXT,
    mime_type TEXT,
    language_code TEXT,
    author TEXT,                      -- 'yes' where there is one: a person, or an institution
    author_person TEXT NOT NULL,
    author_name TEXT NOT NULL,
    author_name_part TEXT NOT NULL,
    reference_id_list TEXT NOT NULL,
    comments TEXT NOT NULL,
    folded_comments TEXT NOT NULL,
    submitted TEXT,
    last_updated TEXT,
    outdated TEXT,                    -- 'yes' where there is a newer version
    hash TEXT,                        -- lower case
    size TEXT,
    home_community_id TEXT,
    ebrim BLOB NOT NULL
) STRICT;
-- The order of pages. Covers what most searches ask for, so that counting reads no rows.
CREATE INDEX document_entries_by_creation_time
    ON document_entries (id >> 24, coalesce(creation_time_first, ''), id, availability_status, outdated);
CREATE INDEX document_entries_by_unique_id ON document_entries (unique_id);
CREATE INDEX document_entries_by_logical_id ON document_entries (logical_id) WHERE logical_id <> entry_uuid;

CREATE TABLE submission_sets (
    id INTEGER PRIMARY KEY,
    entry_uuid TEXT NOT NULL,
    logical_id TEXT,
    version TEXT,
    availability_status TEXT,
    unique_id TEXT,
    source_id TEXT,
    content_type_code TEXT,
    submission_time_first TEXT,
    submission_time_last TEXT,
    author_person TEXT NOT NULL,
    author_name TEXT NOT NULL,
    author_name_part TEXT NOT NULL,
    last_updated TEXT,
    home_community_id TEXT,
    ebrim BLOB NOT NULL
) STRICT;
CREATE INDEX submission_sets_by_submission_time
    ON submission_sets (id >> 24, coalesce(submission_time_first, ''), id, availability_status);
CREATE INDEX submission_sets_by_logical_id ON submission_sets (logical_id) WHERE logical_id <> entry_uuid;

CREATE TABLE folders (
    id INTEGER PRIMARY KEY,
    entry_uuid TEXT NOT NULL,
    logical_id TEXT,
    version TEXT,
    availability_status TEXT,
    unique_id TEXT,
    code_list TEXT NOT NULL,
    last_update_time_first TEXT,
    last_update_time_last TEXT,
    last_updated TEXT,
    outdated TEXT,
    home_community_id TEXT,
    ebrim BLOB NOT NULL
) STRICT;
CREATE INDEX folders_by_unique_id ON folders (unique_id);
CREATE INDEX folders_by_logical_id ON folders (logical_id) WHERE logical_id <> entry_uuid;

-- An association belongs to the dossier of the objects that it links.
CREATE TABLE associations (
    id INTEGER PRIMARY KEY,
    patient INTEGER NOT NULL,         -- id >> 24
    entry_uuid TEXT NOT NULL,
    logical_id TEXT,
    version TEXT,
    availability_status TEXT,
    association_type TEXT,
    source_object TEXT,
    target_object TEXT,
    submission_set_status TEXT,
    home_community_id TEXT,
    ebrim BLOB NOT NULL
) STRICT;
CREATE INDEX associations_by_source_object ON associations (patient, source_object);
CREATE INDEX associations_by_target_object ON associations (patient, target_object);
-- Most dossiers have no relations between documents: a page looks here whether there are any.
CREATE INDEX associations_by_association_type
    ON associations (patient, association_type, availability_status)
    WHERE association_type <> 'urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember';
CREATE INDEX associations_by_logical_id ON associations (logical_id) WHERE logical_id <> entry_uuid;

-- FHIR resources of DocumentEntries, SubmissionSets and Folders, as JSON, zstd, without what associations say.
-- A table of its own: who asks for ebRIM does not read past them. What a page tells of an object is here again, so that
-- the object's row, which is several times as long, need not be read.
CREATE TABLE fhir_resources (
    id INTEGER PRIMARY KEY,           -- of the object
    entry_uuid TEXT NOT NULL,
    logical_id TEXT,                  -- NULL: the entryUUID
    version TEXT,                     -- NULL: 1
    resource BLOB NOT NULL
) STRICT;

-- What stands for a patient in FHIR resources (registry/fhir_resources.py).
CREATE TABLE patient_keys (
    patient_key TEXT PRIMARY KEY,
    patient INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is left of removed documents: their uniqueIds mean these bytes for ever.
CREATE TABLE removed_documents (
    unique_id TEXT NOT NULL,
    entry_uuid TEXT NOT NULL,
    hash TEXT,                        -- lower case
    size TEXT,
    PRIMARY KEY (unique_id, entry_uuid)
) STRICT, WITHOUT ROWID;
