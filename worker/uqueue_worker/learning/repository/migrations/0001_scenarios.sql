-- Scenario definitions, their history, and which migrations were applied.

create schema simulation;

create table simulation.schema_migrations (
    version integer primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default now()
);

-- A generated column takes immutable functions only, and array_to_string is not declared as one. The texts are cut
-- because a tsvector holds one megabyte.
create function simulation.search_words(name text, tags text[], category text, description text) returns tsvector
    language sql immutable parallel safe
    as $$
        select setweight(to_tsvector('pg_catalog.simple', replace(coalesce(name, ''), '_', ' ')), 'A')
            || setweight(to_tsvector('pg_catalog.simple', left(
                replace(coalesce(category, '') || ' ' || array_to_string(tags, ' '), '_', ' '), 100000)), 'B')
            || setweight(to_tsvector('pg_catalog.english', left(
                replace(coalesce(description, ''), '_', ' '), 100000)), 'C')
    $$;

create table simulation.scenario_definitions (
    scenario_id uuid primary key default gen_random_uuid(),
    scenario_class_module text,
    scenario_class_name text,
    description text,
    category text,
    name text not null,
    difficulty_level text
        check (difficulty_level in ('VERY_LOW', 'LOW', 'MEDIUM', 'HIGH', 'VERY_HIGH', 'CUSTOM')),
    expected_duration_seconds double precision check (expected_duration_seconds > 0),
    specific_params jsonb not null default '{}' check (jsonb_typeof(specific_params) = 'object'),
    tags text[] not null default '{}' check (array_position(tags, null) is null),
    version integer not null default 1 check (version >= 1),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    external_id text unique,
    scenario_instance_id text,
    author text,
    updated_by text,
    content_hash text,
    behaviour_hash text,
    parent_scenario_id uuid references simulation.scenario_definitions,
    related_scenario_ids text[] not null default '{}',
    originating_weak_spot_ids text[] not null default '{}',
    origin jsonb not null default '{}' check (jsonb_typeof(origin) = 'object'),
    archived_at timestamptz,
    search_vector tsvector generated always as (simulation.search_words(name, tags, category, description)) stored
);

create index scenario_category on simulation.scenario_definitions (category, updated_at desc, scenario_id desc);
create index scenario_updated on simulation.scenario_definitions (updated_at desc, scenario_id desc);
create index scenario_behaviour on simulation.scenario_definitions (behaviour_hash);
create index scenario_parent on simulation.scenario_definitions (parent_scenario_id);
create index scenario_tags on simulation.scenario_definitions using gin (tags);
create index scenario_params on simulation.scenario_definitions using gin (specific_params jsonb_path_ops);
create index scenario_words on simulation.scenario_definitions using gin (search_vector);
create index scenario_weak_spots on simulation.scenario_definitions using gin (originating_weak_spot_ids);

-- Where parameters contain something rare, the planner must know that: by default it expects one row in a hundred.
alter table simulation.scenario_definitions alter specific_params set statistics 300;

-- The numbers of the parameters, so that ranges of them have an index, which jsonb does not offer. Elements of lists
-- are left out. The triggers keep it; nobody else writes to it.
create table simulation.scenario_numbers (
    path text not null,
    value double precision not null,
    scenario_id uuid not null references simulation.scenario_definitions on delete cascade,
    primary key (path, value, scenario_id)
);
create index scenario_numbers_owner on simulation.scenario_numbers (scenario_id);

create function simulation.keep_numbers() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    as $$
        begin
            if tg_op = 'UPDATE' then
                delete from simulation.scenario_numbers as numbers using fresh
                    where numbers.scenario_id = fresh.scenario_id;
            end if;
            insert into simulation.scenario_numbers (path, value, scenario_id)
                with recursive parts (scenario_id, path, value) as (
                    select fresh.scenario_id, part.key, part.value
                    from fresh, jsonb_each(fresh.specific_params) as part
                    where part.key ~ '^[A-Za-z0-9_]+$'
                    union all
                    select parts.scenario_id, parts.path || '.' || part.key, part.value
                    from parts,
                        jsonb_each(case when jsonb_typeof(parts.value) = 'object' then parts.value end) as part
                    where part.key ~ '^[A-Za-z0-9_]+$'
                )
                select path, value::double precision, scenario_id from parts where jsonb_typeof(value) = 'number';
            return null;
        end
    $$;
revoke all on function simulation.keep_numbers() from public;

create trigger keep_numbers_of_new after insert on simulation.scenario_definitions
    referencing new table as fresh for each statement execute function simulation.keep_numbers();
create trigger keep_numbers_of_changed after update on simulation.scenario_definitions
    referencing new table as fresh for each statement execute function simulation.keep_numbers();

create table simulation.scenario_definition_history (
    scenario_id uuid not null references simulation.scenario_definitions,
    version integer not null check (version >= 1),
    snapshot jsonb not null,
    operation text not null check (operation in ('insert', 'update', 'archive', 'restore')),
    changed_at timestamptz not null default now(),
    changed_by text,
    reason text,
    weak_spot_ids text[] not null default '{}',
    primary key (scenario_id, version)
);

-- Whoever runs the migrations owns the tables. Programs sign in as members of uqueue_learning_app, reports as members
-- of uqueue_learning_reader. An owner that may not make roles leaves them to an administrator, who makes them first.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['uqueue_learning_app', 'uqueue_learning_reader'] loop
        begin
            if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
                execute format('create role %I nologin', wanted);
            end if;
        exception
            when duplicate_object or unique_violation then null;  -- migrations of another database made it meanwhile
            when insufficient_privilege then
                raise notice 'role % is missing and may not be made here', wanted;
                continue;
        end;
        execute format('grant usage on schema simulation to %I', wanted);
        execute format('grant select on all tables in schema simulation to %I', wanted);
        execute format('alter default privileges in schema simulation grant select on tables to %I', wanted);
    end loop;
    if exists (select from pg_catalog.pg_roles where rolname = 'uqueue_learning_app') then
        grant insert, update on simulation.scenario_definitions to uqueue_learning_app;
        grant insert on simulation.scenario_definition_history to uqueue_learning_app;
        alter default privileges in schema simulation
            grant insert, update, delete on tables to uqueue_learning_app;
        alter default privileges in schema simulation grant usage on sequences to uqueue_learning_app;
    end if;
end
$$;
