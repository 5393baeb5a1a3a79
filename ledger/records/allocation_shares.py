"""Costs of runs shared out by rules, to the last digit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import product
from math import floor
from typing import Final, TypeAlias

from ledger.errors import InvalidArgument
from ledger.records.allocation import (
    AllocatedCost,
    AllocationRule,
    Condition,
    CostAllocation,
    CostSum,
)
from ledger.records.amounts import exactly, scaled, unscaled
from ledger.records.refusal import shown
from ledger.window import Window

_CENT_DECIMALS: Final = 12
_SUM_DIGITS: Final = 40
"""Before the decimal point: those of as many runs as a bigint counts, of 12 digits each."""

Shares: TypeAlias = "Mapping[Condition, Mapping[str, Fraction]]"
"""Who gets how much of the cost of the runs of a condition; the first that matches decides."""


def shares_of(rules: Sequence[AllocationRule]) -> Shares:
    """The rules by their conditions, in the order in which each condition is first named.

    Raises InvalidArgument for what is no sequence of rules, and for shares of a condition that
    do not add up to 1.
    """
    # Not any iterable: a question may be put again, and a generator would then be empty.
    if not isinstance(rules, Sequence):
        raise InvalidArgument(f"rules {shown(rules)} are not a list of AllocationRule")
    by_condition: dict[Condition, list[AllocationRule]] = {}
    for rule in rules:
        if not isinstance(rule, AllocationRule):
            raise InvalidArgument(f"{shown(rule)} among the rules is not an AllocationRule")
        by_condition.setdefault(rule.condition, []).append(rule)
    return {condition: _shares(condition, some) for condition, some in by_condition.items()}


def allocated(shares: Shares, sums: Iterable[CostSum], window: Window) -> CostAllocation:
    """Who bears what, exactly.

    The cost of all runs that a condition decides is divided once, in units of 1e-12 cents: each
    gets its share rounded down, and the units that are left go one each to those who lost most
    by that, of equals to the one that is named first (the method of largest remainders).
    """
    order = {condition: place for place, condition in enumerate(shares)}
    costs = dict.fromkeys(shares, 0)
    runs = total = unallocated_runs = unallocated = 0
    for each in sums:
        units = _units(each.cost_cents)
        runs, total = runs + each.runs, total + units
        deciding = [wanted for wanted in _generalised(each.condition) if wanted in order]
        if deciding:
            costs[min(deciding, key=order.__getitem__)] += units
        else:
            unallocated_runs, unallocated = unallocated_runs + each.runs, unallocated + units
    borne = {to: 0 for parts in shares.values() for to in parts}
    for condition, units in costs.items():
        for to, part in divided(units, shares[condition]).items():
            borne[to] += part
    return CostAllocation(
        window=window,
        runs=runs,
        total_cents=unscaled(total, _CENT_DECIMALS),
        allocations=tuple(
            AllocatedCost(to=to, cost_cents=unscaled(units, _CENT_DECIMALS))
            for to, units in borne.items()
        ),
        unallocated_runs=unallocated_runs,
        unallocated_cents=unscaled(unallocated, _CENT_DECIMALS),
    )


def divided(units: int, shares: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole units by shares that add up to 1, by the method of largest remainders."""
    parts = {to: floor(units * share) for to, share in shares.items()}
    # Sorting keeps the order of equals.
    losses = sorted(shares, key=lambda to: parts[to] - units * shares[to])
    for to in losses[: units - sum(parts.values())]:
        parts[to] += 1
    return parts


@exactly
def _shares(condition: Condition, rules: Sequence[AllocationRule]) -> dict[str, Fraction]:
    said = sum((rule.share for rule in rules if rule.share is not None), Decimal(0))
    silent = sum(rule.share is None for rule in rules)
    if said > 1 or (said == 1) != (silent == 0):
        raise InvalidArgument(
            f"the shares of the rules for {condition} add up to {said:f}"
            + (
                f" and leave nothing for {silent} without a share; lower them, or say 0 there"
                if silent
                else ", not to 1; correct them, or leave one out for what the others leave"
            )
        )
    equal = (1 - Fraction(said)) / silent if silent else Fraction(0)
    shares: dict[str, Fraction] = {}
    for rule in rules:
        own = equal if rule.share is None else Fraction(rule.share)
        shares[rule.to] = shares.get(rule.to, Fraction(0)) + own
    return shares


def _generalised(condition: Condition) -> Iterator[Condition]:
    """Every condition that such runs meet."""
    for kept in product(*({value, None} for value in condition)):
        yield Condition._make(kept)


def _units(cents: Decimal) -> int:
    units = scaled(cents, _CENT_DECIMALS, _SUM_DIGITS)
    assert units is not None, "the ledger keeps costs to 12 decimals"
    return units
