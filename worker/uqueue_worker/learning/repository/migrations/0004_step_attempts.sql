-- How often steps were begun with, so that one which ends its process each time is given up.

alter table simulation.alm_steps
    add column attempts integer not null default 0 check (attempts >= 0);
comment on column simulation.alm_steps.attempts is 'How often in a row it was begun with and came to no end';
