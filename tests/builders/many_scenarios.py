"""Fifty thousand scenarios in a database, in seconds."""

from __future__ import annotations

from uqueue_worker.learning.repository.connection import Connection, Database

COUNT = 50_000
#: What is rare enough to be looked up: 50 of 50,000 have each.
RARE_WORD, RARE_LABEL, RARE_SITE = "quartz", "RARE", "bay_7"
#: Common words: more than a quarter of all have each, in their names or descriptions.
WORDS = (
    *("distant", "humid", "windy", "traffic", "machinery", "early", "late", "strong", "weak", "repeated"),
    *("night", "morning", "valley", "street"),
)
_GIN = """
    select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as made
    from pg_index join pg_class on pg_class.oid = indexrelid join pg_am on pg_am.oid = relam
    where indrelid = 'simulation.scenario_definitions'::regclass and amname = 'gin'
"""
_FILL = """
    with words (list) as (select %(words)s::text[]),
        classes (list) as (select array['NORMAL', 'FIRE', 'ARC', 'CORONA', 'OVERHEAT']),
        sensors (list) as (select array['VOCSensorArray', 'EMFSensor', 'ThermalCamera', 'AcousticSensor'])
    insert into simulation.scenario_definitions (scenario_id, external_id, scenario_instance_id, name, description,
        category, tags, expected_duration_seconds, specific_params, originating_weak_spot_ids, author, created_at,
        updated_at, content_hash, behaviour_hash)
    select
        lpad(to_hex(n + 1), 32, '0')::uuid, 'bulk-' || n, 'bulk-' || n,
        words.list[1 + n %% 14] || ' ' || words.list[1 + n / 14 %% 14] || ' ' || classes.list[1 + n %% 5] || ' ' || n
            || case when n %% 1000 = 0 then ' quartz' else '' end,
        'A scenario in ' || words.list[1 + n / 3 %% 14] || ' and ' || words.list[1 + n / 7 %% 14] || ' conditions',
        'category_' || n %% 40,
        array['class_' || classes.list[1 + n %% 5], 'sensor_' || sensors.list[1 + n %% 4], 'batch_' || n / 100]
            || case when n %% 1000 = 0 then array['class_RARE'] else '{}' end,
        60 + n %% 600,
        jsonb_build_object('emf_strength_v_m', n %% 10000 / 100.0, 'site',
            'bay_' || case when n %% 1000 = 0 then 7 else 8 + n %% 1999 end, 'environment',
            jsonb_build_object('wind_speed_mps', n %% 1201 / 100.0, 'traffic', n %% 101 / 100.0)),
        array['ws_' || n / 50],
        'author ' || n %% 11,
        timestamptz '2026-01-01 00:00Z' + n * interval '1 second',
        timestamptz '2026-01-01 00:00Z' + n * interval '1 second',
        md5('content' || n), md5('behaviour' || n)
    from generate_series(0, %(count)s - 1) as n, words, classes, sensors
"""


def load_many(database: Database, count: int = COUNT) -> None:
    """Fill an empty table with scenarios that differ in words, tags and parameters, and analyse it."""
    database.write(lambda connection: _fill(connection, count))
    with database.session() as connection:
        connection.execute("set statement_timeout = 0")
        connection.execute("vacuum analyze simulation.scenario_definitions, simulation.scenario_numbers")
        connection.execute("reset statement_timeout")


def _fill(connection: Connection, count: int) -> None:
    connection.execute("set local statement_timeout = 0")
    indexes = connection.execute(_GIN).fetchall()
    for index in indexes:  # made at the end, which is quicker
        connection.execute(f"drop index {index['name']}".encode())
    connection.execute(_FILL, {"count": count, "words": list(WORDS)})
    for index in indexes:
        connection.execute(index["made"].encode())
