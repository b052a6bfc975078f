"""Statements of every round: made with SQLAlchemy, compiled once for each kind of database, and from then on text for its driver.

What SQLAlchemy does anew for each execution of a statement (its cache's key, its parameters and results by their types) takes longer than
the small statements of a round do, and nothing of it is needed for numbers, texts and bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from sqlalchemy import Connection, CursorResult, Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Compiled:
    """The text, the names of its places where these have none, and the values that the statement itself holds."""

    text: str
    order: Sequence[str] | None
    constants: Mapping[str, Any]

    def filled(self, values: Mapping[str, Any]) -> tuple[Any, ...] | dict[str, Any]:
        given = {**self.constants, **values}
        return given if self.order is None else tuple([given[name] for name in self.order])


class Statement:
    """One statement. Its values go to the driver as they are: numbers, texts, bytes or None.

    Args:
      columns: those that an INSERT or UPDATE sets which does not say so itself.
    """

    __slots__ = ("_columns", "_compiled", "_made")

    def __init__(self, made: ClauseElement, *, columns: Iterable[str] | None = None) -> None:
        self._made, self._columns = made, None if columns is None else list(columns)
        self._compiled = dict[str, _Compiled]()

    def on(self, connection: Connection, values: Mapping[str, Any] = _NOTHING) -> CursorResult[*tuple[Any, ...]]:
        """Executes it once."""
        compiled = self._for(connection.dialect)
        return connection.exec_driver_sql(compiled.text, compiled.filled(values))

    def on_each(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Executes it for each of several rows."""
        compiled = self._for(connection.dialect)
        connection.exec_driver_sql(compiled.text, cast(Any, [compiled.filled(row) for row in rows]))

    def _for(self, dialect: Dialect) -> _Compiled:
        found = self._compiled.get(dialect.name)
        if found is None:
            compiler = cast(SQLCompiler, self._made.compile(dialect=dialect, column_keys=self._columns))
            constants = {name: value for name, value in compiler.params.items() if value is not None}
            found = self._compiled[dialect.name] = _Compiled(compiler.string, compiler.positiontup, constants)
        return found
