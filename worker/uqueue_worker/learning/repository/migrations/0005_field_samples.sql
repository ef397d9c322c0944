-- Labelled samples from the field: data sets that were given for a run, and which nothing is trained on.

alter table simulation.alm_datasets drop constraint alm_datasets_role_check;
alter table simulation.alm_datasets add constraint alm_datasets_role_check
    check (role in ('training', 'pool', 'test', 'field'));
