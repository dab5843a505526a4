-- What storage must know so that the index can be made from it alone, and what waits to be removed from it.

-- One row for each transaction that stored or removed instances, committed with it. Its content becomes an
-- object beside the instances before anybody is answered; the row goes when it is merged with its neighbours.
create table journal (
    key text collate "C" primary key,
    sop_instance_uids text[] collate "C" not null,
    at timestamptz not null default now(),
    content text not null,
    is_kept boolean not null default false
);

create index journal_open on journal (at) where not is_kept;

comment on column journal.is_kept is 'the object of this record is durable';

-- Objects that no row points at any more, or never did: removed from storage after a grace.
create table removed (
    key text collate "C" primary key,
    since timestamptz not null default now()
);

create index removed_since on removed (since);
create index pending_started on pending (started);
create index rendition_used on rendition (used_at) where state = 'ready';

-- Who reads the metadata of a series may end although the series is gone; the sweeper takes what is left.
alter table series_metadata drop constraint series_metadata_series_id_fkey;

-- Where a long piece of upkeep stands, so that it goes on there.
create table upkeep (
    name text primary key,
    position text collate "C" not null,
    at timestamptz not null default now()
);
