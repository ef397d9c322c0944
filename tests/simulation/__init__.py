"""A seeded simulation of ledger, lane and sweeper on a clock that nobody waits for.

Real are the ledger's Lua scripts on a real server, the lane's `Exchange` and `Pace`, the `Sweeper`, and the reading of
messages. Simulated are time, the network, the processes, and a model that answers at once; `lane.py` mirrors the turns
of `Lane`, `actors.py` those of `JobRunner` and `LedgerBackend`. Everything that happens is one of many small steps: a
step on a connection reaches Redis, a process goes on to its next wait, something breaks. A seed decides which is next,
so every run can be repeated, as long as the code is the same:

    PYTHONPATH=tests .venv/bin/python -m simulation --seed 123
    PYTHONPATH=tests .venv/bin/python -m simulation --crash lose-after@17:lanes

`--all` tells every step, `--runs 1000` takes as many seeds, `--planted` says which seed finds each planted defect.

    server.py     the server, its scripts reading a clock that the simulation sets
    world.py      time, processes, connections: which step is next
    network.py    one connection, which may break before or after Redis executed what was written, or deliver it late
    process.py    one process: its acknowledgement, its threads, its calls
    actors.py     what processes without a lane do: producers ask, ordinary workers answer
    lane.py       what a process with a lane does
    sweeping.py   what every heartbeat does besides
    faults.py     what goes wrong
    requests.py   jobs, and what computing them gives
    book.py       what happened, kept outside Redis, and what must hold at every step
    verdict.py    what must hold in the end
    scenario.py   who takes part: drawn from a seed, or always the same
    town.py       one run, from its first step until nothing moves any more
    planted.py    defects planted on purpose, each of which must be found
"""
