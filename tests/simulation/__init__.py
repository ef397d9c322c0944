"""A seeded simulation of ledger, lane and sweeper on a clock that nobody waits for.

Real are the ledger's Lua scripts on a real server, the lane's `Exchange` and `Pace`, the `Sweeper`, and the reading of
messages. Simulated are time, the network, the processes, and a model that answers at once. Everything that happens is
one of many small steps: a step on a connection reaches Redis, a process goes on to its next wait, something breaks. A
seed decides which is next, so every run can be repeated:

    PYTHONPATH=tests .venv/bin/python -m simulation --seed 123
    PYTHONPATH=tests .venv/bin/python -m simulation --crash lose-after@17:lanes

    server.py     the server, its scripts reading a clock that the simulation sets
    world.py      time, processes, connections: which step is next
    network.py    one connection, which may break before or after Redis executed what was written
    process.py    one process: its acknowledgement, its threads, its calls
    actors.py     what processes do: producers, ordinary workers, sweeping
    lane.py       what a process with a lane does
    faults.py     what goes wrong
    requests.py   jobs, and what each of them must come to
    book.py       what happened, kept outside Redis, and what must hold at every step
    verdict.py    what must hold in the end
    scenario.py   who takes part, drawn from a seed
    planted.py    defects planted on purpose, each of which must be found
"""
