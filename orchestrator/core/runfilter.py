"""Which runs are meant: conditions that all hold. `runquery` reads them from text, the ledger turns them into SQL."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypedDict, Unpack

from orchestrator.core.states import RunStatus


class Field(StrEnum):
    """What of a run is looked at."""

    FLOW = "flow"
    STATUS = "status"  # as it is shown: `waiting` too
    TAG = "tag"
    KEY = "key"  # the idempotency key
    SCHEDULE = "schedule"  # `flow/key`, or the key alone
    ERROR = "error"  # its fingerprint, or a part of its type or message, whatever the case
    CREATED = "created"  # when it was accepted
    INPUT = "input"  # a search attribute of the flow, by its name
    WORD = "word"  # a part of the flow's name or of the error, whatever the case; a tag or the idempotency key


class Op(StrEnum):
    """How the run's value compares with the one given. All fields but times and attributes know `IS` only."""

    IS = "="
    BELOW = "<"
    UP_TO = "<="
    ABOVE = ">"
    FROM = ">="


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: the field compares so with any of the values; `negated`, with none of them. `name` is that of a
    search attribute, whose values are text until they are `typed`; `position`: where it stands in the query."""

    field: Field
    values: tuple[str | datetime | Decimal | bool, ...]
    op: Op = Op.IS
    negated: bool = False
    name: str = ""
    position: int = dataclasses.field(default=0, compare=False)


class Given(TypedDict, total=False):
    """What may be asked for in words of its own."""

    flow: str | None
    status: RunStatus | Iterable[RunStatus]
    tag: str | None
    key: str | None
    schedule: str | None
    error: str | None
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Runs for which every term holds; without terms, all runs."""

    terms: tuple[Term, ...] = ()

    def __and__(self, other: "RunFilter") -> "RunFilter":
        return RunFilter(self.terms + other.terms)

    @classmethod
    def of(cls, **given: Unpack[Given]) -> "RunFilter":
        """Each that is given holds. `since` and `until` are of the time of acceptance, the end not included; a run has
        any of several statuses."""
        flow, tag, key = given.get("flow"), given.get("tag"), given.get("key")
        schedule, error = given.get("schedule"), given.get("error")
        plain = ((Field.FLOW, flow), (Field.TAG, tag), (Field.KEY, key), (Field.SCHEDULE, schedule))
        terms = [Term(field, (value,)) for field, value in (*plain, (Field.ERROR, error)) if value is not None]
        status, since, until = given.get("status", ()), given.get("since"), given.get("until")
        statuses = (status,) if isinstance(status, RunStatus) else tuple(status)
        if statuses:
            terms.append(Term(Field.STATUS, statuses))
        if since is not None:
            terms.append(Term(Field.CREATED, (since,), Op.FROM))
        if until is not None:
            terms.append(Term(Field.CREATED, (until,), Op.BELOW))
        return cls(tuple(terms))

    @property
    def flows(self) -> tuple[str, ...]:
        """The flows that it names as wanted."""
        named = (term for term in self.terms if term.field is Field.FLOW and not term.negated)
        return tuple(str(value) for term in named for value in term.values)


ALL = RunFilter()
