"""How a function becomes a command: options in groups, and failures in a person's words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter
from typing import Any, get_type_hints

import typer

from ledger.cli.database import Database
from ledger.cli.failures import explained_failures


def command(function: Callable[..., None]) -> Callable[..., None]:
    """What typer is given for a function whose first argument is the database it works on.

    An argument that is a dataclass stands for the options its fields are, so that commands
    share options without repeating them. Those that name the database may also stand before
    the command's name; there they are in the context.
    """
    signature = inspect.signature(function, eval_str=True)
    annotations: dict[str, type[Any]] = {
        name: parameter.annotation for name, parameter in signature.parameters.items()
    }
    groups = {name: group for name, group in annotations.items() if is_dataclass(group)}

    @wraps(function)
    def run(context: typer.Context, **given: object) -> None:
        arguments: dict[str, Any] = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        database: Database = arguments.pop("database")
        if isinstance(context.obj, Database):
            database = context.obj.overridden_by(database)
        with explained_failures(is_debugging=database.debug):
            function(database.unambiguous(), **arguments, **given)

    parameters = [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for parameter in signature.parameters.values():
        if parameter.name in groups:
            parameters += _options(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
    # typer reads this, and not the signature above.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _options(group: type[Any]) -> Iterator[Parameter]:
    annotations = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=annotations[field.name],
        )
