"""Bins of cost as the distribution that callers see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Final

from ledger.models.billing_sums import BINS_A_DECADE, FREE
from ledger.queries.query import Cells
from ledger.records.amounts import exactly
from ledger.records.billing import CostBucket, CostDistribution
from ledger.window import Window

_RATIO: Final = 10 ** (1 / BINS_A_DECADE)
PERCENTILE_ERROR: Final = (_RATIO - 1) / (_RATIO + 1)
"""Of a bin's harmonic middle, to its borders: (ratio - 1) / (ratio + 1)."""

_BINS_A_BUCKET: Final = BINS_A_DECADE // 3
_DIGITS: Final = Context(prec=6)
_OF_AVERAGES: Final = Context(prec=28)


@exactly
def cost_distribution(rows: Sequence[Cells], window: Window) -> CostDistribution:
    """Of rows of a bin, its requests and a cost; also the bin None has a cost."""
    cost = sum((each for _, _, each in rows if each), Decimal(0))
    bins = {number: requests for number, requests, _ in rows if number is not None}
    requests = sum(bins.values())
    p50, p90, p95, p99 = (percentile(bins, requests, rank) for rank in (0.5, 0.9, 0.95, 0.99))
    return CostDistribution(
        window=window,
        requests=requests,
        free_requests=bins.get(FREE, 0),
        average_usd=_OF_AVERAGES.divide(cost, requests) if requests else None,
        median_usd=p50,
        p90_usd=p90,
        p95_usd=p95,
        p99_usd=p99,
        percentile_error=PERCENTILE_ERROR,
        buckets=tuple(_buckets(bins)),
    )


def percentile(bins: dict[int, int], requests: int, share: float) -> Decimal | None:
    """The middle of the bin in which the cost of this rank is; None where there is none."""
    left = math.ceil(share * requests)
    for number in sorted(bins):
        left -= bins[number]
        if left <= 0:
            return Decimal(0) if number == FREE else _middle(number)
    return None


def _middle(number: int) -> Decimal:
    """As far, as a share, from the least cost in the bin as from the greatest."""
    upper = 10.0 ** (number / BINS_A_DECADE)
    return _DIGITS.create_decimal_from_float(2 * upper / (1 + _RATIO))


def _buckets(bins: dict[int, int]) -> list[CostBucket]:
    """Thirds of a decade, from the first to the last that has a call."""
    found: dict[int, int] = {}
    for number, requests in bins.items():
        if number != FREE:
            bucket = -(-number // _BINS_A_BUCKET)
            found[bucket] = found.get(bucket, 0) + requests
    return [
        CostBucket(
            above_usd=_border(bucket - 1), up_to_usd=_border(bucket), requests=found.get(bucket, 0)
        )
        for bucket in range(min(found, default=0), max(found, default=-1) + 1)
    ]


def _border(bucket: int) -> Decimal:
    return _DIGITS.create_decimal_from_float(10.0 ** (bucket / 3))
