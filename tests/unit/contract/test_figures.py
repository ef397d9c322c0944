"""What is counted in one process: buckets, parcels that may be sent twice, bounds."""

from __future__ import annotations

import math

import pytest

from uqueue_config.figures import FIGURES, Outbox, Sums, outbox
from uqueue_config.figures.definitions import COUNTERS_KEY, SERIES_TTL_SECONDS, series_key


def hashes(parcel: outbox.Parcel) -> dict[str, tuple[int, dict[str, float]]]:
    """Read a parcel's arguments as the script does: seconds to live and sums, by key."""
    args = list(parcel.args)
    del args[: 5 + int(args[4])]
    found = {}
    for key in parcel.keys[3:]:
        ttl, count = int(args.pop(0)), int(args.pop(0))
        pairs, args = args[: 2 * count], args[2 * count :]
        found[key] = ttl, {str(pairs[at]): float(pairs[at + 1]) for at in range(0, len(pairs), 2)}
    assert not args
    return found


@pytest.mark.parametrize(
    ("value", "edge"), [(0, "10.0"), (10, "10.0"), (10.001, "25.0"), (5000, "5000.0"), (5001, "+Inf")]
)
def test_a_bucket_holds_its_upper_bound(value: float, edge: str) -> None:
    assert FIGURES["inference_latency_ms"].bucket(value) == edge


def test_sums_come_together_and_are_read_as_they_were_counted() -> None:
    box = Outbox()
    box.add("cache_hits_total", amount=2)
    box.add("cache_hits_total")
    box.add("inference_requests_total", "predict")
    for milliseconds in (3, 12, 12, 9000):
        box.observe("inference_latency_ms", value=milliseconds)
    box.observe("uqueue_queue_wait_seconds", "predictions", value=0.2, times=5)
    (key, (ttl, sums)), *others = hashes(box.parcel()).items()
    assert (key, ttl, others) == (COUNTERS_KEY, 0, [])
    read = Sums({name.encode(): repr(value).encode() for name, value in sums.items()})
    assert read.value("cache_hits_total") == 3
    assert read.value("cache_misses_total") == 0
    assert read.values("inference_requests_total") == {("predict",): 1}
    latency = read.distribution("inference_latency_ms")
    assert latency.counts[:2] == (1, 2)
    assert (latency.counts[-1], latency.count, latency.sum) == (1, 4, 9027)
    (wait,) = read.distributions("uqueue_queue_wait_seconds")
    assert (wait.labels, wait.count, wait.mean) == (("predictions",), 5, 0.2)
    assert read.distribution("onnx_latency_ms").count == 0


def test_a_parcel_stays_the_same_until_it_is_confirmed() -> None:
    box = Outbox()
    assert box.is_empty
    box.add("cache_hits_total")
    first = box.parcel()
    box.add("cache_hits_total", amount=5)
    assert box.parcel() == first
    box.confirm(first)
    second = box.parcel()
    assert hashes(second)[COUNTERS_KEY][1] == {"cache_hits_total": 5}
    assert int(second.args[0]) > int(first.args[0])
    box.confirm(first)  # late, and no word about the second
    assert box.parcel() == second
    box.confirm(second)
    assert box.is_empty


def test_sums_of_an_hour_lapse_and_others_do_not() -> None:
    box = Outbox()
    box.add("successful", key=series_key(7200.0))
    box.add("cache_hits_total")
    found = hashes(box.parcel())
    assert found["uqueue:series:2"][0] == SERIES_TTL_SECONDS == 31 * 86400
    assert found[COUNTERS_KEY][0] == 0


def test_what_is_kept_while_redis_is_away_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_SUMS", 3)
    box = Outbox()
    for number in range(10):
        box.add("uqueue_tasks_total", "task", str(number))
        box.add("uqueue_tasks_total", "task", "0")
    assert hashes(box.parcel())[COUNTERS_KEY][1] == {
        f"uqueue_tasks_total\ttask\t{n}": 11 if n == 0 else 1 for n in range(3)
    }
    for number in range(3000):
        box.keep(str(number).encode())
    box.confirm(box.parcel())
    parcel = box.parcel()
    assert parcel.args[4] == outbox.RECENT_MAX == 1000
    assert parcel.args[5] == b"2000"


@pytest.mark.parametrize("amount", [math.nan, math.inf])
def test_what_redis_would_refuse_is_not_taken_in(amount: float) -> None:
    box = Outbox()
    with pytest.raises(ValueError, match="cannot grow by"):
        box.add("cache_hits_total", amount=amount)
    assert box.is_empty
