"""From text to `Expr`. Total: any text gives one, or ExpressionInvalid with the place.

expr  = or ["??" expr]
or    = and {"||" and}
and   = not {"&&" not}
not   = "!" not | cmp
cmp   = value [("==" | "!=" | "<" | "<=" | ">" | ">=") value]
value = reference | number | string | "true" | "false" | "null" | function "(" expr {"," expr} ")" | "(" expr ")"
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final, NoReturn, cast

from orchestrator.core.expressions.render import FUNCTIONS
from orchestrator.core.expressions.tree import (
    AllOf,
    AnyOf,
    Call,
    Compare,
    Default,
    Expr,
    Member,
    Not,
    Operator,
    Ref,
    Root,
    Value,
    every,
)
from orchestrator.core.suggest import did_you_mean
from orchestrator.errors import ExpressionInvalid

_ROOTS: Final = cast("dict[str, Root]", {name: root for root, name in FUNCTIONS.items()})
_ARGUMENTS: Final = {"number": 1, "time": 1, "text": 1, "lower": 1, "length": 1, "contains": 2}
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_MEMBERS: Final = ("output", "status", "error", "by")
_OPERATORS: Final = frozenset({"==", "!=", "<", "<=", ">", ">="})
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<name>[^\W\d]\w*)|(?P<number>-?[0-9]+(?:\.[0-9]+)?)|(?P<single>'(?:[^']|'')*')
        |(?P<double>"(?:[^"]|"")*")|(?P<mark>\?\?|\?\.|\?\[|&&|\|\||[=!<>]=|[.()\[\],<>!@])|(?P<end>\Z))""",
    re.VERBOSE,
)
_MEANT: Final = {
    "and": "write `&&`.",
    "or": "write `||`.",
    "not": "write `!`.",
    "in": "write `contains(list, value)`.",
}
"""What people write who know another language."""

# The budget of an expression; a reference alone may be as long as it likes.
_CHARACTERS: Final = 1000
_DEPTH: Final = 32
_NODES: Final = 200
_REFERENCES: Final = 20
_DIGITS: Final = 40
_PATH: Final = 50
_INDEX_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def is_expression(value: object) -> bool:
    """Whether a JSON value is an expression rather than a literal."""
    return isinstance(value, str) and value.startswith("@") and not value.startswith("@@")


@lru_cache(maxsize=4096)
def parse(text: str) -> Expr:
    """Read an expression that begins with "@".

    Raises:
        ExpressionInvalid: with the position of the first thing that does not fit.
    """
    if not is_expression(text):
        raise ExpressionInvalid(
            f'{text[:80]!r} is not an expression. Fix: begin with "@", such as `@triggerBody().name`.', position=0
        )
    return _Parser(text).whole()


@lru_cache(maxsize=4096)
def parse_bare(text: str) -> Expr:
    """Read an expression of a field that holds nothing else: it may begin with anything.

    Raises:
        ExpressionInvalid: with the position of the first thing that does not fit.
    """
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the tokens; one method per rule."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0
        self.depth = 0

    def whole(self) -> Expr:
        found = self.expr()
        if (token := self.peek()).kind != "end":
            self.unexpected(token, "`.name`, `[0]`, `['name']`, an operator or the end")
        if not isinstance(found, Ref):
            self.keep_to_the_budget(found)
        return found

    def keep_to_the_budget(self, expr: Expr) -> None:
        nodes = list(every(expr))
        refs = [one for one in nodes if isinstance(one, Ref)]
        limits = (
            (len(self.text), _CHARACTERS, "characters"),
            (len(nodes), _NODES, "parts"),
            (len(refs), _REFERENCES, "references"),
            (max((len(ref.path) for ref in refs), default=0), _PATH, "names in one path"),
        )
        for size, most, what in limits:
            if size > most:
                self.fail(0, f"{size} {what}, and {most} are allowed", "decide it in a step, and use its result.")

    # ---- rules ----

    def expr(self) -> Expr:
        self.depth += 1
        if self.depth > _DEPTH:
            self.fail(self.peek().position, f"nested deeper than {_DEPTH}", "decide it in a step, and use its result.")
        found = self.chain("||", lambda: self.chain("&&", self.negation, AllOf), AnyOf)
        if self.skip("??"):
            found = Default(found, self.expr())
        self.depth -= 1
        return found

    def chain(self, mark: str, operand: Callable[[], Expr], make: Callable[[tuple[Expr, ...]], Expr]) -> Expr:
        found = [operand()]
        while self.skip(mark):
            found.append(operand())
        return found[0] if len(found) == 1 else make(tuple(found))

    def negation(self) -> Expr:
        if not self.skip("!"):
            return self.comparison()
        self.depth += 1
        if self.depth > _DEPTH:
            self.fail(self.peek().position, f"nested deeper than {_DEPTH}", "leave out every second `!`.")
        found = Not(self.negation())
        self.depth -= 1
        return found

    def comparison(self) -> Expr:
        left = self.value()
        if self.peek().text not in _OPERATORS or self.peek().kind != "mark":
            return left
        operator = cast(Operator, self.take().text)
        found = Compare(operator, left, self.value())
        if (token := self.peek()).kind == "mark" and token.text in _OPERATORS:
            self.fail(token.position, "comparisons cannot follow each other", "write `a < b && b < c`.")
        return found

    def value(self) -> Expr:
        token = self.take()
        match token.kind:
            case "single" | "double":
                return Value(_unquoted(token))
            case "number":
                if sum(map(str.isdigit, token.text)) > _DIGITS:
                    self.fail(token.position, f"a number of more than {_DIGITS} digits", "write it as text.")
                return Value(Decimal(token.text))
            case "name":
                return self.word(token)
        if token.text == "@":
            return self.ref()
        if token.text != "(":
            self.unexpected(token, "a reference such as `@triggerBody()`, a value or `(`")
        found = self.expr()
        self.mark(")")
        return found

    def word(self, token: _Token) -> Expr:
        if token.text in _CONSTANTS:
            return Value(_CONSTANTS[token.text])
        wanted = _ARGUMENTS.get(token.text)
        if wanted is None:
            fix = _MEANT.get(token.text) or _missing_at(token.text)
            self.fail(token.position, f"unknown function `{token.text}`", fix or did_you_mean(token.text, _ARGUMENTS))
        self.mark("(")
        arguments = [self.expr()]
        while self.skip(","):
            arguments.append(self.expr())
        self.mark(")")
        if len(arguments) != wanted:
            what = f"`{token.text}` takes {wanted} and was given {len(arguments)}"
            self.fail(token.position, what, f"write `{token.text}({', '.join('ab'[:wanted])})`.")
        return Call(token.text, tuple(arguments))

    def ref(self) -> Ref:
        start = self.peek().position
        name = self.expect("name", "a function such as `triggerBody()`")
        root = _ROOTS.get(name.text)
        if root is None:
            self.fail(name.position, f"unknown function `{name.text}`", did_you_mean(name.text, _ROOTS))
        self.mark("(")
        key = self.string("the step's key in quotes") if root == "step" else None
        loop = None
        if root in ("item", "index") and self.peek().text != ")":
            loop = self.string("the loop's key in quotes, or nothing for the innermost")
        self.mark(")")
        member = self.member() if root == "step" else "output"
        path = self.path()
        if path and (root == "index" or member in ("status", "by")):
            what = "`@index()` is a number" if root == "index" else "`.status` is a text"
            self.fail(start - 1, f"{what} and has no path", "leave the path out.")
        return Ref(root, key, path, member, loop)

    def member(self) -> Member:
        self.mark(".")
        token = self.expect("name", "`output`, `status` or `error`")
        if token.text not in _MEMBERS:
            fix = "write `.output`, `.status` or `.error` after `@steps('key')`."
            self.fail(token.position, f"a step has no `{token.text}`", fix)
        return cast(Member, token.text)

    def path(self) -> tuple[str | int, ...]:
        path: list[str | int] = []
        while (token := self.peek()).kind == "mark" and token.text in {".", "?.", "[", "?["}:
            self.take()
            if token.text.endswith("."):
                path.append(self.expect("name", "a name; any other text goes in brackets: `['a b']`").text)
            else:
                path.append(self.item())
                self.mark("]")
        return tuple(path)

    def item(self) -> str | int:
        token = self.peek()
        if token.kind != "number":
            return self.string("a whole number or a name in quotes")
        if "." in token.text or len(token.text.lstrip("-")) > _INDEX_DIGITS:
            self.fail(
                token.position, f"{token.text[:40]!r} cannot be read", "write a whole number of up to nine digits."
            )
        return int(self.take().text)

    def string(self, wanted: str) -> str:
        token = self.take()
        if token.kind not in {"single", "double"}:
            self.unexpected(token, wanted)
        return _unquoted(token)

    # ---- tokens ----

    def peek(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.tokens[self.at]
        self.at += token.kind != "end"
        return token

    def skip(self, mark: str) -> bool:
        found = self.peek().kind == "mark" and self.peek().text == mark
        self.at += found
        return found

    def expect(self, kind: str, wanted: str) -> _Token:
        token = self.take()
        if token.kind != kind:
            self.unexpected(token, wanted)
        return token

    def mark(self, text: str) -> None:
        token = self.take()
        if token.kind != "mark" or token.text not in {text, "?" + text}:
            self.unexpected(token, f"`{text}`")

    def unexpected(self, token: _Token, wanted: str) -> NoReturn:
        found = "the text ends" if token.kind == "end" else f"`{token.text}` stands"
        fix = _MEANT.get(token.text, "see the expression grammar.")
        self.fail(token.position, f"{found} where {wanted} is needed", fix)

    def fail(self, position: int, problem: str, fix: str) -> NoReturn:
        _fail(self.text, position, problem, fix)


def _missing_at(name: str) -> str | None:
    return f"write `@{name}(…)`." if name in _ROOTS else None


def _unquoted(token: _Token) -> str:
    quote = token.text[0]
    return token.text[1:-1].replace(quote * 2, quote)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            bad = len(text) - len(text[at:].lstrip())
            _fail(text, bad, f"{text[bad : bad + 10]!r} cannot be read", "see the expression grammar.")
        tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return tokens


def _fail(text: str, position: int, problem: str, fix: str) -> NoReturn:
    shown = text if len(text) <= 120 else text[:117] + "..."
    raise ExpressionInvalid(
        f"Expression {shown!r}: {problem} (character {position + 1}). Fix: {fix}",
        expression=text,
        position=position,
        problem=problem,
        fix=fix,
    )
