"""Exact decimals as whole numbers of their last digit, which add and multiply without rounding."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from functools import wraps
from typing import Final, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

USD_DECIMALS: Final = 12
"""The decimals that a US dollar is kept to."""
USD_DIGITS: Final = 12
"""The digits before its decimal point."""

# Not the thread's context, whose precision and traps belong to the host.
_EXACT: Final = Context(prec=64, traps=[])


def scaled(amount: Decimal, decimals: int = USD_DECIMALS, digits: int = USD_DIGITS) -> int | None:
    """The amount in units of its last decimal, or None where so many digits do not hold it.

    NaN and infinity have none either.
    """
    if not amount.is_finite() or (amount and amount.adjusted() >= digits):
        return None
    number = int(_EXACT.scaleb(amount, decimals))
    return number if unscaled(number, decimals) == amount else None


def unscaled(number: int, decimals: int = USD_DECIMALS) -> Decimal:
    """The amount that is so many units of its last decimal."""
    return _EXACT.scaleb(number, -decimals)


def exactly(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Has the function add, subtract and multiply exactly, whatever the thread's context is."""

    @wraps(function)
    def worked_out(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with localcontext(_EXACT):
            return function(*args, **kwargs)

    return worked_out
