"""Methods made of queries and plans: called on a repository, awaited on an asynchronous one."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from ledger.queries.query import Context, Query
from ledger.repositories.repository import AsyncRepository, Repository
from ledger.write.commands import Plan

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class _Method(Generic[Parameters, Result]):
    """The method that has the repository it is looked up on do what a function describes.

    Name, docstring and signature are the function's, without the first ``supplied`` arguments,
    which come from the repository.
    """

    def __init__(self, function: Callable[..., object], *, supplied: int) -> None:
        self._name = function.__name__
        self.__doc__ = function.__doc__
        described = inspect.signature(function)
        named = list(described.parameters.values())[supplied:]
        answer = str(described.return_annotation).partition("[")[2].removesuffix("]")
        self.__signature__ = described.replace(parameters=named, return_annotation=answer)

    @abstractmethod
    def _done_by(
        self,
        repository: Repository | AsyncRepository,
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> object:
        """What the repository makes of it."""

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

        def method(*args: Parameters.args, **kwargs: Parameters.kwargs) -> object:
            return self._done_by(repository, *args, **kwargs)

        method.__name__ = self._name
        method.__qualname__ = f"{owner.__qualname__}.{self._name}"
        method.__doc__ = self.__doc__
        method.__signature__ = self.__signature__  # type: ignore[attr-defined]
        return method


class reads(_Method[Parameters, Result]):  # noqa: N801 - it is read like a decorator
    """The method that puts a query to the repository, which knows the context."""

    def __init__(self, query: Callable[Concatenate[Context, Parameters], Query[Result]]) -> None:
        super().__init__(query, supplied=1)
        self._query = query

    def _done_by(
        self,
        repository: Repository | AsyncRepository,
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> object:
        return repository.fetch(lambda context: self._query(context, *args, **kwargs))


class writes(_Method[Parameters, Result]):  # noqa: N801 - it is read like a decorator
    """The method that has the repository carry out a plan."""

    def __init__(self, plan: Callable[Parameters, Plan[Result]]) -> None:
        super().__init__(plan, supplied=0)
        self._plan = plan

    def _done_by(
        self,
        repository: Repository | AsyncRepository,
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> object:
        return repository.perform(self._plan(*args, **kwargs))
