"""From text to `Ref` and back. Total: any text gives a Ref or ExpressionInvalid."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NoReturn

from orchestrator.core.suggest import did_you_mean
from orchestrator.errors import ExpressionInvalid

Root = Literal["trigger", "step", "item", "index"]

_ROOTS: Final[dict[str, Root]] = {"triggerBody": "trigger", "steps": "step", "item": "item", "index": "index"}
_FUNCTIONS: Final = {root: name for name, root in _ROOTS.items()}
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<name>[^\W\d]\w*)|(?P<number>-?[0-9]{1,9}(?![0-9]))|(?P<single>'(?:[^']|'')*')|(?P<double>"(?:[^"]|"")*")
        |(?P<mark>\?\.|\?\[|[.()\[\]])|(?P<end>\Z))""",
    re.VERBOSE,
)
_PLAIN_NAME: Final = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Ref:
    """One reference. `key` is set for the root "step" only; `path` starts at the body, output or item."""

    root: Root
    key: str | None = None
    path: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        return render(self)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def is_expression(value: object) -> bool:
    """Whether a JSON value is a reference rather than a literal."""
    return isinstance(value, str) and value.startswith("@") and not value.startswith("@@")


@lru_cache(maxsize=4096)
def parse(text: str) -> Ref:
    """Read one expression, with its leading "@".

    Raises:
        ExpressionInvalid: with the position of the first thing that does not fit.
    """
    if not is_expression(text):
        raise ExpressionInvalid(
            f'{text[:80]!r} is not an expression. Fix: begin with "@", such as `@triggerBody().name`.', position=0
        )
    return _Parser(text).ref()


class _Parser:
    """Recursive descent over the tokens; one method per rule."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0

    def ref(self) -> Ref:
        name = self.expect("name", "a function such as `triggerBody()`")
        root = _ROOTS.get(name.text)
        if root is None:
            _fail(self.text, name.position, f"unknown function `{name.text}`", did_you_mean(name.text, _ROOTS))
        self.mark("(")
        key = self.string("the step's key in quotes") if root == "step" else None
        self.mark(")")
        if root == "step":
            self.output()
        path = self.path()
        if root == "index" and path:
            _fail(self.text, 0, "`@index()` is a number and has no path", "write `@index()` alone.")
        return Ref(root, key, path)

    def output(self) -> None:
        self.mark(".")
        member = self.expect("name", "`output`")
        if member.text != "output":
            fix = "write `.output` after `@steps('key')`."
            _fail(self.text, member.position, f"a step has no `{member.text}`", fix)

    def path(self) -> tuple[str | int, ...]:
        path: list[str | int] = []
        while self.peek().kind != "end":
            token = self.take()
            if token.text in {".", "?."}:
                path.append(self.expect("name", "a name; any other text goes in brackets: `['a b']`").text)
            elif token.text in {"[", "?["}:
                path.append(self.item())
                self.mark("]")
            else:
                self.unexpected(token, "`.name`, `[0]`, `['name']` or the end")
        return tuple(path)

    def item(self) -> str | int:
        if self.peek().kind == "number":
            return int(self.take().text)
        return self.string("a whole number or a name in quotes")

    def string(self, wanted: str) -> str:
        token = self.take()
        if token.kind not in {"single", "double"}:
            self.unexpected(token, wanted)
        quote = token.text[0]
        return token.text[1:-1].replace(quote * 2, quote)

    def peek(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.tokens[self.at]
        self.at += token.kind != "end"
        return token

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
        _fail(self.text, token.position, f"{found} where {wanted} is needed", "see the expression grammar.")


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 1  # after the "@"
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            bad = len(text) - len(text[at:].lstrip())
            _fail(text, bad, f"{text[bad : bad + 10]!r} cannot be read", "write names, quoted text or whole numbers.")
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


def render(ref: Ref) -> str:
    """The text of a reference; `parse(render(ref)) == ref`."""
    key = f"{_quote(ref.key)}" if ref.key is not None else ""
    output = ".output" if ref.root == "step" else ""
    return f"@{_FUNCTIONS[ref.root]}({key}){output}" + "".join(map(_render_part, ref.path))


def _render_part(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if _PLAIN_NAME.fullmatch(part) else f"[{_quote(part)}]"


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
