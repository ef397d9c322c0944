-- When parts of steps were begun with, and how often.

alter table simulation.alm_parts
    add column started_at timestamptz,
    add column tries integer not null default 0 check (tries >= 0),
    add column waits boolean not null default false;
comment on column simulation.alm_parts.started_at is 'When the last try began; null for parts of before this column';
comment on column simulation.alm_parts.tries is 'How often it was begun with; waiting for jobs of the queue is one try';
comment on column simulation.alm_parts.waits is 'It waits for jobs of the queue, and whoever goes on with it begins no new try';
