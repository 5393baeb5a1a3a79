"""A transaction's values from a mapping, without the object: for those who write a million."""

from __future__ import annotations

from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator
from pydantic_core.core_schema import CoreConfig, typed_dict_field, typed_dict_schema

from ledger.records.completion import complete
from ledger.records.refusal import as_dict, invalid_record
from ledger.records.transaction import Transaction

_FIELDS: Final = Transaction.model_fields
_DEFAULTS: Final = {
    name: field.get_default(call_default_factory=True)
    for name, field in _FIELDS.items()
    if not field.is_required()
}

_validated: Final = SchemaValidator(
    typed_dict_schema(
        {
            name: typed_dict_field(
                TypeAdapter(field.rebuild_annotation()).core_schema, required=field.is_required()
            )
            for name, field in _FIELDS.items()
        },
        config=CoreConfig(allow_inf_nan=Transaction.model_config["allow_inf_nan"]),
        extra_behavior=Transaction.model_config["extra"],
    )
).validate_python


def values_of(record: object) -> dict[str, Any]:
    """What `Transaction.of` would hold, with what COPY sends; `timestamp` and `id` as sent.

    The fields of Transaction, validated by the same schemas and completed by the same function.
    Without the object a record takes 5 us instead of 8: none for defaults filled in one by one,
    a UUID made of the new id, and the instance itself.

    Raises InvalidRecord.
    """
    try:
        values: dict[str, Any] = {**_DEFAULTS, **_validated(as_dict(record))}
    except ValidationError as error:
        raise invalid_record(error) from None
    complete(values)
    return values
