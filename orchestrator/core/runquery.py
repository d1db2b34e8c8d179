"""From the text of a query to a `RunFilter`: `flow:bill status:failed,cancelled -tag:test age<1d "card declined"`.

query = {["-"] (field operator value {"," value} | word)}
field = "flow" | "status" | "tag" | "key" | "schedule" | "error" | "since" | "until" | "age"
      | "input." name
operator = ":" | "=" | "!=", and "<" | "<=" | ">" | ">=" for `age` and `input.…`
value = letters without space and comma, or in quotes (two of them stand for one)
word  = letters without space, or in quotes

All terms hold, each for any of its values. Of what a run has one of (flow, status, key, schedule) a term that is
repeated adds values: `status:failed status:cancelled` is `status:failed,cancelled`.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn

from orchestrator.core.durations import parse_duration
from orchestrator.core.runfilter import Field, Op, RunFilter, Term
from orchestrator.core.states import RunStatus
from orchestrator.core.suggest import did_you_mean
from orchestrator.core.values import refusal
from orchestrator.errors import DurationInvalid, QueryInvalid

CHARACTERS: Final = 2000
TERMS: Final = 50
"""So much of a query and so many terms of it are read."""

_ONE_OF: Final = frozenset({Field.FLOW, Field.STATUS, Field.KEY, Field.SCHEDULE})
_NAMES: Final = ("flow", "status", "tag", "key", "schedule", "error", "since", "until", "age")
_INPUT: Final = "input."
_HEAD: Final = re.compile(r"(?P<minus>-?)(?P<name>[A-Za-z][\w.-]*)(?P<op>!=|<=|>=|[:=<>])")
_QUOTED: Final = r"""(?:"(?P<double>(?:[^"]|"")*)"|'(?P<single>(?:[^']|'')*)'"""
_VALUE: Final = re.compile(_QUOTED + r"""|(?P<bare>[^\s,"'][^\s,]*))""")
_WORD: Final = re.compile(r"(?P<minus>-?)" + _QUOTED + r"""|(?P<bare>[^\s"'-]\S*))""")
_OPS: Final = {":": Op.IS, "=": Op.IS, "!=": Op.IS, "<": Op.BELOW, "<=": Op.UP_TO, ">": Op.ABOVE, ">=": Op.FROM}
_OPPOSITE: Final = {Op.BELOW: Op.FROM, Op.UP_TO: Op.ABOVE, Op.ABOVE: Op.UP_TO, Op.FROM: Op.BELOW}
_OLDER: Final = {Op.BELOW: Op.ABOVE, Op.UP_TO: Op.FROM, Op.ABOVE: Op.BELOW, Op.FROM: Op.UP_TO}
"""A smaller age is a later time."""


def parse(text: str, now: datetime) -> RunFilter:
    """Read a query. `now` is what ages and lengths of time count from; a time without an offset is UTC.

    Raises:
        QueryInvalid: with the position of the first thing that does not fit.
    """
    return _Parser(text, now).whole()


class _Parser:
    def __init__(self, text: str, now: datetime) -> None:
        self.text = text
        self.now = now
        self.at = 0

    def whole(self) -> RunFilter:
        if len(self.text) > CHARACTERS:
            self.fail(CHARACTERS, f"it has more than {CHARACTERS} characters", "ask for less at once.")
        if refused := refusal(self.text):
            self.fail(0, f"it is {refused.problem}", "remove it.")
        terms: list[Term] = []
        while self.skip_space():
            if len(terms) == TERMS:
                self.fail(self.at, f"it has more than {TERMS} terms", "give several values to one: `tag:a,b`.")
            terms.append(self.term())
        return RunFilter(_merged(terms))

    def skip_space(self) -> bool:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.at < len(self.text)

    # ---- terms ----

    def term(self) -> Term:
        head = _HEAD.match(self.text, self.at)
        if head is None:
            return self.word()
        place, name, op = head.start("name"), head["name"], head["op"]
        attribute = name.removeprefix(_INPUT) if name.startswith(_INPUT) else ""
        if name not in _NAMES and not attribute:
            hint = did_you_mean(name, (*_NAMES, "input.NAME"))
            self.fail(place, f"there is no field `{name}`", f'{hint} To search for the text, write it in quotes: "…".')
        self.at = head.end()
        values = self.values(name)
        negated = bool(head["minus"]) != (op == "!=")
        if name in ("since", "until", "age"):
            return self.time(name, head.start("op"), op, values, negated=negated)
        if attribute:
            texts = tuple(value for value, _ in values)
            return Term(Field.INPUT, texts, _OPS[op], negated, attribute, position=place)
        if op not in (":", "=", "!="):
            self.fail(head.start("op"), f"`{name}` is equal or not", f"write `{name}:value` or `-{name}:value`.")
        if name == "status":
            return Term(Field.STATUS, tuple(self.status(*one) for one in values), negated=negated)
        return Term(Field(name), tuple(value for value, _ in values), negated=negated)

    def word(self) -> Term:
        found = _WORD.match(self.text, self.at)
        if found is None:
            self.no_word(self.at)
        self.at = found.end()
        self.end_of_term()
        return Term(Field.WORD, (_unquoted(found),), negated=bool(found["minus"]))

    # ---- values ----

    def values(self, name: str) -> list[tuple[str, int]]:
        """Each with its place."""
        found = [self.value(name)]
        while self.text.startswith(",", self.at):
            self.at += 1
            found.append(self.value(name))
        self.end_of_term()
        return found

    def value(self, name: str) -> tuple[str, int]:
        place = self.at
        found = _VALUE.match(self.text, place)
        if found is None:
            if self.text[place : place + 1] in ('"', "'"):
                self.no_word(place)
            self.fail(place, f"a value of `{name}` is missing", f"write `{name}:value` without spaces in between.")
        self.at = found.end()
        return _unquoted(found), place

    def end_of_term(self) -> None:
        if self.at < len(self.text) and not self.text[self.at].isspace():
            self.fail(self.at, "a term goes on behind its quotes", "put a space, or the whole value in quotes.")

    def status(self, word: str, place: int) -> RunStatus:
        if word not in list(RunStatus):
            self.fail(place, f"there is no run status `{word}`", did_you_mean(word, list(RunStatus)))
        return RunStatus(word)

    # ---- times ----

    def time(self, name: str, place: int, op: str, values: list[tuple[str, int]], *, negated: bool) -> Term:
        if len(values) > 1:
            self.fail(values[1][1], f"`{name}` has one value", "leave the others out.")
        ((text, at),) = values
        if name == "age":
            if _OPS[op] is Op.IS:
                self.fail(place, "an age is compared", "write `age<1d` or `age>2h`.")
            compares, moment = _OLDER[_OPS[op]], self.ago(text, at)
        else:
            if op not in (":", "=", "!="):
                self.fail(place, f"`{name}` says how it compares", f"write `{name}:{text}`.")
            compares, moment = Op.FROM if name == "since" else Op.BELOW, self.moment(text, at)
        return Term(Field.CREATED, (moment,), _OPPOSITE[compares] if negated else compares)

    def moment(self, text: str, at: int) -> datetime:
        return self.read(text, at, "a time: 2h (two hours ago), 2026-11-01 or 2026-11-01T07:00Z", self.ago_or_at)

    def ago(self, text: str, at: int) -> datetime:
        return self.read(text, at, "a length of time: 30m, 2h, 1d", self.length_ago)

    def read(self, text: str, at: int, what: str, reader: Callable[[str], datetime]) -> datetime:
        try:
            return reader(text)
        except (ValueError, OverflowError):
            self.fail(at, f"`{text}` does not read as a time", f"write {what}.")

    def ago_or_at(self, text: str) -> datetime:
        try:
            return self.length_ago(text)
        except (DurationInvalid, ValueError):
            found = datetime.fromisoformat(text)
            return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

    def length_ago(self, text: str) -> datetime:
        """A bare number is no length of time here: `since:2026` means the year to whoever writes it."""
        length: timedelta = parse_duration("" if text.isdigit() else text)
        return self.now - length

    # ---- what does not fit ----

    def no_word(self, place: int) -> NoReturn:
        if self.text[place] == "-" and self.text[place + 1 : place + 2] not in ('"', "'"):
            self.fail(place, "no word follows the minus", "write `-tag:test` without a space, or use quotes.")
        self.fail(place, "a quote is not closed", "close it; inside of quotes, two of them stand for one.")

    def fail(self, position: int, problem: str, fix: str) -> NoReturn:
        raise QueryInvalid(
            f"The query {self.text[:200]!r} does not read at character {position + 1}: {problem}. Fix: {fix}",
            position=position,
            problem=problem,
            fix=fix,
        )


def _unquoted(found: re.Match[str]) -> str:
    if found["double"] is not None:
        return found["double"].replace('""', '"')
    if found["single"] is not None:
        return found["single"].replace("''", "'")
    return found["bare"]


def _merged(terms: list[Term]) -> tuple[Term, ...]:
    """One term for each field that a run has one of; the others as they are."""
    found: list[Term] = []
    places: dict[Field, int] = {}
    for term in terms:
        if term.negated or term.field not in _ONE_OF:
            found.append(term)
        elif term.field in places:
            first = found[places[term.field]]
            found[places[term.field]] = replace(first, values=first.values + term.values)
        else:
            places[term.field] = len(found)
            found.append(term)
    return tuple(found)
