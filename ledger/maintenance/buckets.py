"""The start of the bucket that a moment is in, in SQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Interval, cast, func, literal
from sqlalchemy.dialects.postgresql import TIMESTAMP

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, SQLColumnExpression

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def bucket_of(moment: SQLColumnExpression[Any], width: timedelta) -> ColumnElement[datetime]:
    """The last multiple of ``width`` since the epoch (UTC) that is not after the moment."""
    return func.date_bin(
        cast(literal(width), Interval),
        moment,
        cast(literal(_EPOCH), TIMESTAMP(timezone=True)),
        type_=TIMESTAMP(timezone=True),
    )
