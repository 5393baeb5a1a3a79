"""A method made of a query: called on a repository, awaited on an asynchronous one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from ledger.queries.query import Context, Query
from ledger.repositories.repository import AsyncRepository, Repository

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class reads(Generic[Parameters, Result]):  # noqa: N801 - it is read like a decorator
    """The method that puts a query to the repository it is looked up on.

    Name, docstring and signature are the query's, without the context that the repository
    supplies.
    """

    def __init__(self, query: Callable[Concatenate[Context, Parameters], Query[Result]]) -> None:
        self._query = query
        self.__doc__ = query.__doc__
        described = inspect.signature(query)
        named = list(described.parameters.values())[1:]
        answer = str(described.return_annotation).removeprefix("Query[").removesuffix("]")
        self.__signature__ = described.replace(parameters=named, return_annotation=answer)

    @overload
    def __get__(self, repository: None, owner: type) -> Self: ...
    @overload
    def __get__(self, repository: Repository, owner: type) -> Callable[Parameters, Result]: ...
    @overload
    def __get__(
        self, repository: AsyncRepository, owner: type
    ) -> Callable[Parameters, Awaitable[Result]]: ...
    def __get__(
        self, repository: Repository | AsyncRepository | None, owner: type
    ) -> Self | Callable[Parameters, object]:
        if repository is None:
            return self
        query = self._query

        def method(*args: Parameters.args, **kwargs: Parameters.kwargs) -> object:
            return repository.fetch(lambda context: query(context, *args, **kwargs))

        method.__name__ = query.__name__
        method.__qualname__ = f"{owner.__qualname__}.{query.__name__}"
        method.__doc__ = query.__doc__
        method.__signature__ = self.__signature__  # type: ignore[attr-defined]
        return method
