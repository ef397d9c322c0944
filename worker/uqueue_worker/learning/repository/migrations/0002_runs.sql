-- Runs of active learning: where they stand, what they found and made, and the parts of their steps.

create table simulation.alm_runs (
    run_id text primary key,
    idempotency_key text unique,
    status text not null check (
        status in ('pending', 'running', 'waiting', 'cancelling', 'cancelled', 'completed', 'failed')
    ),
    cycle integer not null check (cycle >= 0),
    state text not null,
    stop_reason text,
    configuration jsonb not null check (jsonb_typeof(configuration) = 'object'),
    config_hash text not null,
    random_seed bigint not null,
    metrics jsonb not null default '{}' check (jsonb_typeof(metrics) = 'object'),
    record jsonb not null check (jsonb_typeof(record) = 'object'),
    revision integer not null check (revision >= 0),
    created_at timestamptz not null,
    updated_at timestamptz not null
);
comment on table simulation.alm_runs is 'One row per run; record holds all of it, the other columns are for queries';
create index alm_runs_created on simulation.alm_runs (created_at desc, run_id desc);
create index alm_runs_moving on simulation.alm_runs (updated_at) where status in ('pending', 'running', 'cancelling');

create table simulation.alm_cycles (
    run_id text not null references simulation.alm_runs on delete cascade,
    cycle integer not null check (cycle >= 0),
    state text not null,
    stop_reason text,
    metrics jsonb not null default '{}' check (jsonb_typeof(metrics) = 'object'),
    seeds jsonb not null default '{}' check (jsonb_typeof(seeds) = 'object'),
    record jsonb not null check (jsonb_typeof(record) = 'object'),
    primary key (run_id, cycle)
);
comment on table simulation.alm_cycles is 'One row per cycle, with its history';

create table simulation.alm_weak_spots (
    run_id text not null references simulation.alm_runs on delete cascade,
    cycle integer not null,
    weakness_id text not null,
    type text not null,
    priority double precision not null check (priority between 0 and 1),
    record jsonb not null,
    primary key (run_id, cycle, weakness_id)
);

create table simulation.alm_suggestions (
    suggestion_id text primary key,
    run_id text not null references simulation.alm_runs on delete cascade,
    cycle integer not null,
    place integer not null,
    kind text not null,
    state text not null check (state in ('proposed', 'approved', 'rejected', 'applied')),
    record jsonb not null
);
create index alm_suggestions_run on simulation.alm_suggestions (run_id, cycle, place);

create table simulation.alm_datasets (
    run_id text not null references simulation.alm_runs on delete cascade,
    name text not null,
    place integer not null,
    role text not null check (role in ('training', 'pool', 'test')),
    cycle integer,
    path text not null,
    fingerprint text not null,
    schema_fingerprint text not null,
    samples integer not null check (samples >= 0),
    rejected integer not null check (rejected >= 0),
    record jsonb not null,
    primary key (run_id, name)
);

create table simulation.alm_scenario_uses (
    run_id text not null references simulation.alm_runs on delete cascade,
    cycle integer not null,
    weakness_id text not null, -- empty: exploration
    scenario_id text not null,
    scenario_version integer not null check (scenario_version >= 1),
    dataset text not null,
    samples integer not null check (samples >= 0),
    primary key (run_id, cycle, weakness_id, scenario_id, scenario_version, dataset)
);
create index alm_scenario_uses_scenario on simulation.alm_scenario_uses (scenario_id);

create table simulation.alm_steps (
    run_id text not null references simulation.alm_runs on delete cascade,
    cycle integer not null,
    state text not null,
    open_parts integer not null default 0 check (open_parts >= 0),
    primary key (run_id, cycle, state)
);
comment on table simulation.alm_steps is 'How many parts of a step have no result yet; whoever makes it 0 advances the run';

create table simulation.alm_parts (
    run_id text not null,
    cycle integer not null,
    state text not null,
    key text not null,
    place integer not null,
    kind text not null,
    payload jsonb not null,
    result jsonb,
    finished_at timestamptz,
    primary key (run_id, cycle, state, key),
    foreign key (run_id, cycle, state) references simulation.alm_steps on delete cascade
);

create table simulation.alm_dead_letters (
    run_id text not null,
    cycle integer not null,
    state text not null,
    key text not null,
    kind text not null,
    error jsonb not null,
    failed_at timestamptz not null,
    primary key (run_id, cycle, state, key)
);
create index alm_dead_letters_failed on simulation.alm_dead_letters (failed_at desc);
