"""A flow's body says no more than its graph shows: what would be dropped or frozen without a word is refused."""

import linecache
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from orchestrator import Flow, flow
from orchestrator.errors import AuthoringError
from tests.unit import bodies


@pytest.fixture
def written(tmp_path: Path, request: pytest.FixtureRequest):
    """A flow `f(order, note)` with this body, in a file of its own."""

    def write(
        body: str, *, parameters: str = "order: str, note: str | None = None", returns: str = "Any"
    ) -> Flow[..., Any]:
        file = tmp_path / "shop.py"
        names = "from tests.unit.bodies import (\n    " + ", ".join(n for n in vars(bodies) if n[0] != "_") + ",\n)\n"
        text = names + "from tests.unit import bodies\nfrom typing import Any\nfrom orchestrator import each, flow\n\n"
        text += f"@flow\ndef f({parameters}) -> {returns}:\n" + indent(dedent(body).strip("\n"), "    ") + "\n"
        file.write_text(text)
        space: dict[str, Any] = {"__name__": "shop"}
        exec(compile(text, str(file), "exec"), space)
        found: Flow[..., Any] = space["f"]
        return found

    return write


DROPPED = [
    ("holds a `try`", "cid = charge(order)\ntry:\n    ship(cid)\nexcept Exception:\n    refund(cid)\n    raise"),
    ("holds a `try`", "try:\n    ship(order)\nfinally:\n    refund(order)"),
    ("holds a `try`", "try:\n    ship(order)\nexcept* ValueError:\n    refund(order)"),
    ("holds a `with`", "with bodies.compensated(order):\n    ship(order)"),
    ("holds a `while`", "while True:\n    ship(order)\n    break"),
    ("holds a `match`", "match order:\n    case 'a':\n        ship(order)"),
    ("holds a `global`", "global kept\nkept = ship(order)"),
    ("holds an `if` that is always or never true", "if False:\n    refund(order)\nship(order)"),
    ("holds an `if` that is always or never true", "return ship(order) if 1 else refund(order)"),
    ("asks `note is None`", "if note is None:\n    refund(order)\nship(order)"),
    ("asks `tracking is not None`", "tracking = find(order)\nassert tracking is not None\nship(tracking)"),
    ("asks `one is None`", "for one in [find(order), find(note)]:\n    ship('x' if one is None else one)"),
    ("asks `find(order) is None`", "ship('x' if find(order) is None else order)"),
    ("asks `type(order)`", "ship(str(type(order)))"),
    ("was asked for its class", "ship('x' if isinstance(order, str) else order)"),
    ("calls `refund` here", "if bodies.FAST:\n    refund(order)\nship(order)"),
    ("calls `refund` here", "ship(order)\nreturn\nrefund(order)"),
    ("calls `refund` here", "ship(order)\nbodies.FAST and refund(order)"),
    ("calls `refund.options(after=[order])` here", "ship(order)\nif FAST:\n    refund.options(after=[order])(order)"),
    ("calls `each` here", "ship(order)\nif FAST:\n    each(ship, ['a'])"),
    ("calls `undo` here", "undo = refund.options(retries=2)\nship(order)\nif FAST:\n    undo(order)"),
    ("calls `all_of` here", "ship(order)\nif FAST:\n    all_of([1])"),
    ("calls `bodies.refund` here", "ship(order)\n[bodies.refund(order) for _ in []]"),
    ("hides a call of `refund` in `lambda`", "undo = lambda: refund(order)\nship(order)"),
    ("hides a call of `refund` in `undo`", "def undo():\n    refund(order)\nship(order)"),
    ("hides a call of `refund` in `Undo`", "class Undo:\n    def now(self):\n        refund(order)\nship(order)"),
    ("hides a call of `all_of` in `undo`", "def undo():\n    all_of([1])\nship(order)"),
    ("hides a call of `number` in `lambda`", "return list(map(lambda n: number(n), [1, 2]))"),
    ("`guarded`, which the body of flow `f` calls, holds a `try`", "guarded(order)"),
    ("`guarded`, which the body of flow `f` calls, holds a `try`", "bodies.guarded(order)"),
    ("`sell`, which the body of flow `f` calls, holds a `try`", "Shop().sell(order)"),
    ("`maybe`, which the body of flow `f` calls, asks `order is None`", "maybe(order)"),
]
FROZEN = [
    ("reads the clock (`date.today`)", "ship(str(date.today()))"),
    ("reads the clock (`datetime.now`)", "ship(str(datetime.now(UTC)))"),
    ("reads the clock (`time.time`)", "number(int(time.time()))"),
    ("reads the clock (`monotonic`)", "from time import monotonic\nnumber(int(monotonic()))"),
    ("reads chance (`uuid.uuid4`)", "ship(str(uuid.uuid4()))"),
    ("reads chance (`new_id`)", "from uuid import uuid4 as new_id\nship(str(new_id()))"),
    ("reads chance (`random.random`)", "number(int(random.random()))"),
    ("reads chance (`r.choice`)", "import random as r\nnumber(r.choice([1, 2]))"),
    ("reads its surroundings (`os.environ`)", "ship(os.environ['HOME'])"),
    ("reads its surroundings (`os.getenv`)", "ship(os.getenv('HOME') or '')"),
    ("`label`, which the body of flow `f` calls, reads the clock (`datetime.now`)", "ship(label())"),
]


@pytest.mark.parametrize(("says", "body"), [*DROPPED, *FROZEN])
def test_what_no_graph_shows_is_refused_with_its_line_and_what_to_write(written, tmp_path, says, body):
    with pytest.raises(AuthoringError) as caught:
        written(body)
    text = str(caught.value)
    assert says in text
    assert ". Fix: " in text
    file, line = text.split(": ")[0].rsplit(":", 1)
    assert file in (str(tmp_path / "shop.py"), bodies.__file__)
    assert int(line) > 1


def test_the_line_is_that_of_the_statement(written, tmp_path):
    with pytest.raises(AuthoringError) as caught:
        written("cid = charge(order)\ntry:\n    ship(cid)\nexcept Exception:\n    refund(cid)")
    lines = (tmp_path / "shop.py").read_text().splitlines()
    assert lines[caught.value.line - 1] == "    try:"
    assert caught.value.file == str(tmp_path / "shop.py")


def test_a_default_that_changes_from_day_to_day_is_refused(written):
    with pytest.raises(AuthoringError, match="reads the clock"):
        written("ship(day)", parameters="day: str = str(date.today())")


FAITHFUL = [
    ("for n in [1, 2, 3]:\n    number(n)", 3),
    ("for n in NUMBERS:\n    if n > 1:\n        number(n)", 2),
    ("for n in range(2):\n    number(n, label='even' if n % 2 == 0 else 'odd')", 2),
    ("return [number(n) for n in bodies.NUMBERS]", 3),
    ("return all_of([n * 2 for n in NUMBERS if n != 2])", 2),
    ("return {str(n): number(n) for n in (1, 2)}", 2),
    ("a, b = by_kind('card', order), by_kind('cash', order)", 2),
    ("by_kind('card', order)", 1),
    ("noted(order)", 1),
    ("ship(twice('7'))", 1),
    ("send = ship.options(retries=2)\nsend(order)\nsend(send(order))", 3),
    ("return each(ship, [order, note], concurrency=2)", 1),
    ("import json\nship(json.dumps({'a': 1}))", 1),
    ("double = lambda n: n * 2\nnumber(double(4))", 1),
    ("x: str = ship(\n    order,\n)\nrefund.options(\n    after=[x],\n)(\n    x\n)", 2),
    ("(\n    bodies\n    .ship(order)\n)", 1),
    ("assert len(NUMBERS) == 3\nship(order)", 1),
    ("print('registering', len(NUMBERS))\nship(order)", 1),
    ("kinds = {'a': 1}\nif kinds.get('b') is None:\n    number(kinds['a'])", 1),
    ("days = {uuid.uuid5(uuid.NAMESPACE_URL, 'a')}\nship(str(days))", 1),
    ("random.Random(7)\nship(str(datetime(2024, 1, 1, tzinfo=UTC)))", 1),
    ("if FAST:\n    a, b = ship, ship\na = ship\na(order)", 1),
    ("Lazy().shipped", 1),
    ("deep(3)", 1),
    ("pass", 0),
]


@pytest.mark.parametrize(("body", "steps"), FAITHFUL)
def test_plain_python_that_the_graph_shows_is_allowed(written, body, steps):
    assert len(written(body).manifest.steps) == steps


def test_a_graph_that_differs_the_second_time_is_refused(written):
    with pytest.raises(AuthoringError) as caught:
        written("number(next(bodies.ORDERS))")
    text = str(caught.value)
    assert "gave another graph the second time: `inputs` of step `number` was {'n': " in text
    assert "Fix: keep the body free of time, chance" in text


def test_a_step_or_result_that_is_there_only_once_is_named(written):
    with pytest.raises(AuthoringError, match=r"the result was .*, then"):
        written("return next(bodies.ORDERS)")
    with pytest.raises(AuthoringError, match=r"step `number_.*` is there only the second time"):
        written("for n in range(next(bodies.ORDERS) + 1):\n    number(n)")


def test_without_its_source_a_body_is_traced_all_the_same():
    space: dict[str, Any] = {"__name__": "nowhere", "charge": bodies.charge, "flow": flow}
    exec("@flow\ndef f(order: str) -> str:\n    return charge(order)\n", space)
    assert list(space["f"].manifest.steps) == ["charge"]


def test_a_source_that_was_changed_since_it_was_loaded_is_not_held_against_the_body(tmp_path):
    file = tmp_path / "shop.py"
    text = "@flow\ndef f(order: str) -> str:\n    return charge(order)\n"
    file.write_text("\n\n\n" + text.replace("return", "while True:"))
    exec(compile(text, str(file), "exec"), space := {"__name__": "shop", "charge": bodies.charge, "flow": flow})
    assert list(space["f"].manifest.steps) == ["charge"]  # type: ignore[attr-defined]
    linecache.checkcache(str(file))


def test_a_body_of_a_thousand_steps_is_checked_in_a_moment(written):
    lines = "\n".join(f"n{i + 1} = number(n{i})" for i in range(1000))
    made = written("n0 = 0\n" + lines)
    assert len(made.manifest.steps) == 1000
