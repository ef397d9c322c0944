"""What goes wrong comes back as one of a few exceptions, each with a code and facts."""

from __future__ import annotations

import uqueue
from uqueue_config.errors import IdempotencyConflict, InvalidFeatures, JobNotFound

with uqueue.Client() as client:
    try:
        client.submit([[1.0, float("nan")]])
    except InvalidFeatures as error:
        print(f"{error.code}: {error}")

    first = client.submit([[0.0] * 8], idempotency_key="order-17")
    again = client.submit([[0.0] * 8], idempotency_key="order-17")
    assert first.id == again.id  # sent twice, run once
    try:
        client.submit([[1.0] * 8], idempotency_key="order-17")
    except IdempotencyConflict as error:
        print(f"{error.code}: {error}")

    try:
        client.job("nobody-submitted-this").status()
    except JobNotFound as error:
        print(f"{error.code}: {error}")
