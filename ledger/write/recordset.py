"""Many rows as one bound value: a JSON text, which any driver sends and which keeps every digit.

For tables under row level security, to which COPY is refused, and for small ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Column,
    Text,
    and_,
    bindparam,
    case,
    cast,
    column,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import array

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Executable

ROWS: Final = "rows"
POSITION: Final = "position"


def given(columns: Iterable[Column[Any]]) -> Any:  # noqa: ANN401 - SQLAlchemy's table values
    """The rows of the bound text as a relation: these columns, and `position`."""
    return (
        func.json_to_recordset(cast(bindparam(ROWS, type_=Text), JSON))
        .table_valued(
            *(column(each.name, each.type) for each in columns), column(POSITION, BigInteger)
        )
        .render_derived(name="given", with_types=True)
    )


def bound(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The parameters of a statement about these rows."""
    return {ROWS: to_json(rows).decode()}


def comparison(
    sent: Any,  # noqa: ANN401 - SQLAlchemy's relations, of one or the other class
    stored: Any,  # noqa: ANN401
    key: Sequence[str],
    differences: Mapping[str, ColumnElement[bool]],
) -> Executable:
    """Which sent rows are not stored, or with other content: position, is_stored, differing.

    To be executed after the insert, as a statement of its own: only then is the row in its way
    visible.
    """
    differing = func.array_remove(
        array(
            [
                case((differs, literal_column(f"'{name}'", Text)))
                for name, differs in differences.items()
            ]
        ),
        None,
        type_=ARRAY(Text),
    )
    matched = sent.outerjoin(stored, and_(*(stored.c[name] == sent.c[name] for name in key)))
    compared = (
        select(
            sent.c[POSITION].label(POSITION),
            stored.c[key[0]].is_not(None).label("is_stored"),
            differing.label("differing"),
        )
        .select_from(matched)
        .subquery("compared")
    )
    return (
        select(compared)
        .where(~compared.c.is_stored | (func.cardinality(compared.c.differing) > 0))
        .order_by(compared.c.position)
    )
