"""The same reading for many things at once, in a few statements.

What reads is written for one thing, and is not changed: it is begun for all of them. Where it asks what is not known
yet it is left there, and what all of them ask is asked together: a statement that several ask with other values is
one, with the values as rows. Then they are begun again, with the answers at hand, and come to the next question. So
there are as many rounds as one of them has questions in a row, whatever their number.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from sqlalchemy import Connection, Result
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.sql import Executable

from orchestrator.errors import OrchestratorError
from orchestrator.ledger.rows import ESSENTIAL
from orchestrator.ledger.tx import Ledger

T = TypeVar("T")
K = TypeVar("K")
_PLACE: Final = re.compile(r"%\((\w+)\)s")
_TYPES: Final[Mapping[type, str]] = {
    bool: "boolean",
    int: "bigint",
    str: "text",
    UUID: "uuid",
    datetime: "timestamptz",
    timedelta: "interval",
}
_DIALECT: Final = PGDialect_psycopg(paramstyle="pyformat")  # type: ignore[no-untyped-call]


def together(ledger: Ledger, things: Iterable[K], read: Callable[[Ledger, K], T]) -> dict[K, T | OrchestratorError]:
    """What `read` gives, or raises, for each of them. It must do nothing but read, and the same when begun again."""
    answers = _Answers()
    asking = _Asking(ledger, answers)
    found: dict[K, T | OrchestratorError] = {}
    left = list(dict.fromkeys(things))
    while left:
        open_: list[K] = []
        for thing in left:
            try:
                found[thing] = read(asking, thing)
            except _Unknown:
                open_.append(thing)
            except OrchestratorError as exc:
                found[thing] = exc
        answers.ask(ledger)
        left = open_
    return found


class _Unknown(Exception):
    """What is asked has no answer yet."""


@dataclass(frozen=True, slots=True)
class _Answer:
    names: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]

    def result(self) -> Result[Any]:
        return IteratorResult(SimpleResultMetaData(self.names), iter(self.rows))


@dataclass(slots=True)
class _Answers:
    """By statement and values; and what is to be asked."""

    known: dict[tuple[str, str], _Answer] = field(default_factory=dict)
    asked: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict)

    def get(self, text: str, values: Mapping[str, Any]) -> Result[Any]:
        """
        Raises:
            _Unknown: nobody has asked it before.
        """
        key = repr(sorted(values.items()))
        answer = self.known.get((text, key))
        if answer is None:
            self.asked.setdefault(text, {})[key] = values
            raise _Unknown
        return answer.result()

    def ask(self, ledger: Ledger) -> None:
        for text, by_key in self.asked.items():
            with ledger.auto() as tx:
                found = _ask(tx, text, list(by_key.values()))
            self.known |= {(text, key): answer for key, answer in zip(by_key, found, strict=True)}
        self.asked.clear()


def _ask(tx: Connection, text: str, asked: Sequence[Mapping[str, Any]]) -> Iterator[_Answer]:
    """One statement for all of them."""
    if len(asked) == 1:
        result = tx.exec_driver_sql(text, dict(asked[0]))
        yield _Answer(tuple(result.keys()), [tuple(row) for row in result])
        return
    first, *others = asked
    other = [name for name in first if any(one[name] != first[name] for one in others)]
    rows = ", ".join(f"({n}, {', '.join(_value(n, name, asked) for name in other)})" for n in range(len(asked)))
    body = _PLACE.sub(lambda place: f'asked."{place[1]}"' if place[1] in other else place[0], text)
    columns = ", ".join(f'"{name}"' for name in other)
    result = tx.exec_driver_sql(
        f"SELECT asked.n AS asked_n, q.* FROM (VALUES {rows}) AS asked(n, {columns}) CROSS JOIN LATERAL"
        f" (SELECT row_number() OVER () AS asked_place, t.* FROM ({body}) AS t) AS q ORDER BY asked_n, asked_place",
        {
            **{name: value for name, value in first.items() if name not in other},
            **{f"{name}_{n}": one[name] for n, one in enumerate(asked) for name in other},
        },
    )
    names = tuple(result.keys())[2:]
    found: list[list[tuple[Any, ...]]] = [[] for _ in asked]
    for row in result:
        found[row[0]].append(tuple(row)[2:])
    yield from (_Answer(names, one) for one in found)


def _value(n: int, name: str, asked: Sequence[Mapping[str, Any]]) -> str:
    """With its type, which PostgreSQL cannot tell of a column of values."""
    return f"%({name}_{n})s::{next(_type(one[name]) for one in asked if one[name] is not None)}"


def _type(value: Any) -> str:
    if isinstance(value, list):
        return f"{_TYPES[type(value[0])] if value else 'text'}[]"
    return next(_TYPES[kind] for kind in type(value).__mro__ if kind in _TYPES)


class _Asking(Ledger):
    """A ledger that knows what has been answered."""

    def __init__(self, whole: Ledger, answers: _Answers) -> None:
        vars(self).update(vars(whole))  # what this process knows: plans of versions, above all
        self._questions = cast(Connection, _Questions(answers, {ESSENTIAL: True} if whole.essential else {}))

    @contextmanager
    def auto(self) -> Iterator[Connection]:
        yield self._questions

    @contextmanager
    def tx(self) -> Iterator[Connection]:
        yield self._questions


class _Questions:
    """What the reading has of a connection."""

    def __init__(self, answers: _Answers, options: Mapping[str, Any]) -> None:
        self._answers, self._options = answers, options

    def get_execution_options(self) -> Mapping[str, Any]:
        return self._options

    def exec_driver_sql(self, text: str, values: Mapping[str, Any]) -> Result[Any]:
        return self._answers.get(text, values)

    def execute(self, statement: Executable) -> Result[Any]:
        compiled = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        return self._answers.get(str(compiled), compiled.params)
