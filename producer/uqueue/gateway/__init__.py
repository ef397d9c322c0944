"""The HTTP face of a uqueue service. Needs the extra `gateway`; nothing else in `uqueue` imports it.

server.py       runs it: `uqueue gateway`
app.py          puts the parts together
gate.py         what every request passes: identity, logs, keys, limits, the body
page            what browsers see at `/`
jobs.py models.py events.py inference.py health.py    the routes
problems.py     every error as RFC 9457 problem+json
headers.py      Prefer, Idempotency-Key, traceparent and the like, read and written
webhooks*.py    telling the ends of jobs to whoever asked for it
keys.py limits.py metrics.py schemas.py documents.py tensors.py state.py logs.py    what those need
"""
