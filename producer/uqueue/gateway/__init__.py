"""The HTTP face of a uqueue service. Needs the extra `gateway`; nothing else in `uqueue` imports it.

server.py       runs it: `uqueue gateway`
app.py          puts the parts together
gate.py         what every request passes: identity, logs, keys, limits, the body
jobs.py models.py events.py inference.py health.py    the routes
problems.py     every error as RFC 9457 problem+json
headers.py      Prefer, Idempotency-Key, traceparent and the like, read and written
keys.py limits.py metrics.py schemas.py documents.py tensors.py state.py logs.py    what those need
"""
