"""The contenders of `queues.py`, one module each, with the same model inside.

A module of this package is imported by two processes: by the worker, as the application that its own command line
starts, and by the client (`client.py`), which calls its

    submit(count)   queues so many one-row jobs, the fastest way its own client has, and returns where in Redis each
                    result will be: a key, or a field of the hash that `contenders.py` names
    round_trip()    submits one job, waits for its result the way its own client does, and returns the answer

Both read `BENCH_REDIS_URL` and `BENCH_WORKSPACE` from the environment.
"""
