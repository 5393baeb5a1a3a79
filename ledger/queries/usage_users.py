"""The statement that says which users were the dearest."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, bindparam, or_, select

from ledger.models.tenancy import User
from ledger.queries.usage_sums import sums
from ledger.queries.usage_terms import MEASURES

if TYPE_CHECKING:
    from ledger.queries.query import AnySelect
    from ledger.queries.usage_shape import SumsShape

_USERS: Final = User.__table__

LIMIT: Final = bindparam("limit", type_=BigInteger())


@lru_cache(maxsize=256)
def costs_of_users(shape: SumsShape) -> AnySelect:
    """The dearest users: id, external id, MEASURES."""
    summed = sums(shape).subquery("summed")
    dearest = (
        select(*summed.c)
        # Sums of nothing are left by corrections that count elsewhere.
        .where(or_(*(summed.c[name] != 0 for name in MEASURES)))
        .order_by(summed.c.vendor_cost.desc(), summed.c.user_id)
        .limit(LIMIT)
        .subquery("dearest")
    )
    return select(
        dearest.c.user_id, _USERS.c.external_id, *(dearest.c[name] for name in MEASURES)
    ).select_from(dearest.join(_USERS, _USERS.c.id == dearest.c.user_id))
