-- Studies, series and instances; what is derived from them; what is on its way.
-- Keys that are compared or matched are made by the program (app/index/rows.py) and collate "C": UIDs compare
-- by byte on every server, and a prefix is a range of an ordinary index.

-- study and series are described by the instance with the smallest SOP Instance UID among theirs, so that no
-- order of arrival matters. Dates and times that cannot be read are null.
create table study (
    id bigint generated always as identity primary key,
    study_instance_uid text collate "C" not null unique,
    described_by text collate "C" not null,
    number_of_series integer not null default 0,
    number_of_instances bigint not null default 0,
    modalities text[] not null default '{}',
    study_date date,
    study_time text collate "C",
    accession_number text collate "C" not null,
    referring_physician_name_key text collate "C" not null,
    patient_name_key text collate "C" not null,
    patient_id text collate "C" not null,
    issuer_of_patient_id text collate "C" not null,
    patient_birth_date date,
    patient_sex text collate "C" not null,
    study_id text collate "C" not null,
    study_description_key text collate "C" not null,
    attributes text not null
) with (fillfactor = 80);

comment on column study.attributes is 'members of a DICOM JSON object, ascending, one a line';

create index study_newest on study (study_date desc nulls last, study_time desc nulls last, id desc);
create index study_accession_number on study (accession_number);
create index study_patient_id on study (patient_id);
create index study_patient_birth_date on study (patient_birth_date);
create index study_study_id on study (study_id);

create table series (
    id bigint generated always as identity primary key,
    study_id bigint not null references study on delete cascade,
    series_instance_uid text collate "C" not null,
    described_by text collate "C" not null,
    version bigint not null default 1,
    changed_at timestamptz not null default now(),
    number_of_instances bigint not null default 0,
    modality text collate "C" not null,
    series_number integer not null,
    series_date date,
    series_description_key text collate "C" not null,
    body_part_examined text collate "C" not null,
    performed_start_date date,
    performed_start_time text collate "C",
    scheduled_procedure_step_ids text[] collate "C" not null,
    requested_procedure_ids text[] collate "C" not null,
    attributes text not null,
    unique (study_id, series_instance_uid)
) with (fillfactor = 80);

comment on column series.series_number is '2147483647 when there is none, so that it sorts last without nulls';

create index series_in_order on series (study_id, series_number, id);
create index series_uid on series (series_instance_uid);
create index series_performed on series (performed_start_date, performed_start_time);

-- A rare or absent modality is found by its index, whatever the number of studies.
create table study_modality (
    modality text collate "C" not null,
    study_date date,
    study_id bigint not null references study on delete cascade,
    primary key (study_id, modality)
);

create index study_modality_newest on study_modality (modality, study_date desc nulls last, study_id desc);

create table instance (
    id bigint generated always as identity primary key,
    study_id bigint not null references study on delete cascade,
    series_id bigint not null references series on delete cascade,
    sop_instance_uid text collate "C" not null unique,
    sop_class_uid text collate "C" not null,
    transfer_syntax_uid text collate "C" not null,
    instance_number integer not null,
    number_of_frames integer not null,
    object_key text collate "C" not null,
    size bigint not null,
    prefix_sha256 bytea not null,
    dataset_sha256 bytea not null,
    dataset_offset bigint not null,
    stored_at timestamptz not null default now(),
    scanned_by smallint not null,
    pixel_tag text,
    pixel_vr text,
    pixel_offset bigint,
    pixel_length bigint,
    frame_bits bigint,
    stream_length bigint,
    container text,
    attributes text not null,
    bulk jsonb,
    metadata bytea not null,
    fragments bytea,
    frame_starts bytea
);

comment on column instance.instance_number is '2147483647 when there is none, so that it sorts last without nulls';
comment on column instance.bulk is 'path: [vr, offset, length]; pixel data has its own columns';
comment on column instance.metadata is 'zlib of the DICOM JSON of the data set';

-- Compressed already, or read by substr: the server shall not compress again.
alter table instance
    alter column attributes set storage external,
    alter column metadata set storage external,
    alter column fragments set storage external,
    alter column frame_starts set storage external;

create index instance_in_order on instance (study_id, series_id, instance_number, id);
create index instance_sop_class on instance (sop_class_uid);
create index instance_series on instance (series_id);

-- A key stands here before its object becomes visible; the instance's transaction deletes it or fails.
create table pending (
    key text collate "C" primary key,
    started timestamptz not null default now()
);

-- Everything made from an instance; the table is the queue, its unique key the single flight.
create table rendition (
    id bigint generated always as identity primary key,
    instance_id bigint not null references instance on delete cascade,
    kind text not null,
    params text not null default '',
    maker_version integer not null,
    state text not null default 'queued' check (state in ('queued', 'running', 'ready', 'failed')),
    progress real not null default 0,
    lease_until timestamptz,
    attempts integer not null default 0,
    error text,
    object_key text collate "C",
    size bigint,
    layout jsonb,
    media_type text,
    sha256 bytea,
    created_at timestamptz not null default now(),
    used_at timestamptz not null default now(),
    unique (instance_id, kind, params, maker_version)
);

create index rendition_waiting on rendition (kind, id) where state in ('queued', 'running');

-- The metadata of a series as one gzip stream; old versions stay a while for those who still read them.
create table series_metadata (
    series_id bigint not null references series on delete cascade,
    version bigint not null,
    root text collate "C" not null,
    sha256 bytea not null,
    made_at timestamptz not null default now(),
    used_at timestamptz not null default now(),
    gzip bytea not null,
    primary key (series_id, version, root)
);

alter table series_metadata alter column gzip set storage external;

-- `*x*` over names, identifiers and descriptions, as viewers send it; without the extension they are scanned.
do $$
begin
    create extension if not exists pg_trgm;
    create index study_patient_name on study using gin (patient_name_key gin_trgm_ops);
    create index study_referring_physician_name on study using gin (referring_physician_name_key gin_trgm_ops);
    create index study_patient_id_part on study using gin (patient_id gin_trgm_ops);
    create index study_accession_number_part on study using gin (accession_number gin_trgm_ops);
    create index study_description on study using gin (study_description_key gin_trgm_ops);
exception
    when insufficient_privilege or undefined_file or feature_not_supported or undefined_object then
        raise notice 'pg_trgm is not available: names and descriptions are scanned';
end
$$;
