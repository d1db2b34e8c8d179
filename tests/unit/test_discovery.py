"""Flows are found in modules, files and entry points; what is wrong names the user's own line."""

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.authoring import discovery
from orchestrator.authoring.discovery import load_flows
from orchestrator.authoring.kinds import show
from orchestrator.authoring.modules import as_written
from orchestrator.errors import DiscoveryError

FLOW = """
from __future__ import annotations
from dataclasses import dataclass
from orchestrator import flow, step

@dataclass
class Thing:
    n: int

@step
def make(n: int) -> Thing:
    return Thing(n)

@flow
def {name}(n: int = 1) -> Thing:
    return make(n)
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(discovery, "entry_points", lambda group: [])
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    return path


def test_a_module_and_a_file_are_loaded():
    write("shop_a.py", FLOW.format(name="a"))
    write("deep/shop_b.py", FLOW.format(name="b"))
    flows = load_flows(("shop_a", "deep/shop_b.py"))
    assert list(flows) == ["a", "b"]
    assert flows["a"].encode_input() == '{"n":1}'


def test_a_package_module_is_loaded():
    write("pkg_x/__init__.py", "")
    write("pkg_x/flows.py", FLOW.format(name="a"))
    assert list(load_flows(["pkg_x.flows"])) == ["a"]


def test_a_file_keeps_its_module_name_so_that_its_values_can_be_pickled():
    write("shop_p.py", FLOW.format(name="a"))
    made = load_flows(["shop_p.py"])["a"].handlers["make"].fn(3)
    assert pickle.loads(pickle.dumps(made)) == made
    assert load_flows([str(Path("shop_p.py").absolute())])["a"] is load_flows(["shop_p.py"])["a"]


def test_a_file_imports_its_neighbours_and_a_flow_shown_twice_counts_once():
    write("sub/steps_n.py", FLOW.format(name="inner"))
    write("sub/main_n.py", "from steps_n import inner\nimport steps_n\nagain = inner\n")
    assert list(load_flows(["sub/main_n.py", "sub/steps_n.py"])) == ["inner"]


def test_nothing_named_is_nothing_found():
    assert load_flows(()) == {}


@pytest.mark.parametrize(
    ("files", "spec", "says"),
    [
        ({}, "nosuch_m", "There is no module 'nosuch_m'"),
        ({"shopping.py": ""}, "shoping", "did you mean `shopping`?"),
        ({}, "a-b", "is not a module name"),
        ({}, "", "is not a module name"),
        ({}, "no/such.py", "There is no file no/such.py"),
        ({"e1.py": "x = 1\n\nimport nosuch_q\n"}, "e1", "e1.py:3"),
        ({"e2.py": "def f():\n    return 1 / 0\nf()\n"}, "e2.py", "ZeroDivisionError: division by zero at"),
        ({"e2.py": "def f():\n    return 1 / 0\nf()\n"}, "e2.py", "e2.py:2"),
        ({"e3.py": "x = 1\nif:\n"}, "e3.py", "e3.py:2"),
        ({"e4.py": "x = 1\n"}, "e4", "e4 holds no flow"),
        (
            {"e5.py": FLOW.format(name="a") + "\n@flow\ndef bad(n: int) -> None:\n    if n:\n        pass\n"},
            "e5.py",
            "e5.py:20: the flow's input `n` was asked whether it is true",
        ),
        ({"e6.txt": "x"}, "./e6.txt", "is not a Python file"),
        ({"e7.py": "import sys\nsys.exit(3)\n"}, "e7.py", "e7.py ended itself while it was loaded: sys.exit(3) at"),
        ({"e8.py": "import sys\nsys.exit('no')\n"}, "e8", "e8 ended itself while it was loaded: sys.exit('no') at"),
        ({"e9.py": "x = '\0'\n"}, "e9.py", "e9.py cannot be read as Python: SyntaxError: source code"),
        ({"e10.py": "x = '\udce9'\n"}, "e10", "e10 cannot be loaded: SyntaxError: (unicode error)"),
        (
            {"app/__init__.py": "", "app/a.py": "from .b import x\n", "app/b.py": "x = 1\n"},
            "app/a.py",
            "Fix: name the module instead of the file: `app.a`.",
        ),
        ({"app2/a.py": "from .b import x\n"}, "app2/a.py", "Fix: name the module instead of the file: `app2.a`."),
        (
            {"c1.py": "from c2 import two\none = 1\n", "c2.py": "from c1 import one\ntwo = 2\n"},
            "c1",
            "Fix: two modules import each other; move what both need into a third.",
        ),
        (
            {"queue.py": "MINE = 1\n", "e11.py": "from queue import MINE\n"},
            "e11.py",
            "queue.py: `import queue` gives the installed module of that name, ",
        ),
        ({"redis/__init__.py": "MINE = 1\n", "e12.py": "import redis\nredis.MINE\n"}, "e12", "Fix: rename "),
        ({"queue.py": FLOW.format(name="a")}, "queue", "queue holds no flow. Fix: rename "),
        (
            {"e13.py": FLOW.format(name="a") + "\n@flow\ndef bad() -> None:\n    audit(1)\n"},
            "e13.py",
            "NameError: name 'audit' is not defined. Fix: define or import `audit` above the flow.",
        ),
        (
            {"e14.py": FLOW.format(name="a") + "\n@flow\ndef bad() -> None:\n    maker(1)\n"},
            "e14.py",
            "Fix: define or import `maker` above the flow (did you mean `make`?).",
        ),
        (
            {"e15.py": FLOW.format(name="a") + "\n@flow\ndef bad() -> None:\n    import e15_no\n"},
            "e15.py",
            "Fix: correct the import, and put it at the top of the module.",
        ),
        (
            {"e16.py": FLOW.format(name="a") + "\n@flow\ndef bad() -> None:\n    make.options(on='failed')(1)\n"},
            "e16.py",
            "`options` of step `make` has no option `on`. Fix: write `when=…` for a condition, and `after=[failed(x)]`",
        ),
        (
            {"e17.py": FLOW.format(name="a") + "\n@flow\ndef bad() -> None:\n    make.options(retires=1)(1)\n"},
            "e17.py",
            "`options` of step `make` has no option `retires`. Fix: did you mean `retries`?",
        ),
    ],
)
def test_what_cannot_be_loaded_names_the_reason(files, spec, says):
    for name, text in files.items():
        write(name, text)
    with pytest.raises(DiscoveryError, match="Fix: ") as caught:
        load_flows([spec])
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_projects_own_modules_never_take_the_place_of_others():
    """Also of what is imported late, after the folder is on the path."""
    for name in ("queue", "redis", "celery", "kombu", "email", "flower", "own_prices", "tabnanny"):
        write(f"{name}.py", "MINE = True\n")
    write("own.py", FLOW.format(name="a") + "import queue, redis, email, own_prices\nassert own_prices.MINE\n")
    assert list(load_flows(["own.py"])) == ["a"]
    import queue
    import tabnanny

    assert not hasattr(queue, "MINE")
    assert not hasattr(tabnanny, "MINE")


def test_classes_of_a_file_are_shown_by_the_name_of_the_file():
    write("saga.py", FLOW.format(name="a"))
    kind = load_flows(["saga.py"])["a"].handlers["make"].signature.returns
    assert kind.__module__.startswith("orchestrator_flows_saga_")
    assert as_written(f"{kind.__module__}.{kind.__qualname__} of {kind!r}") == "saga.Thing of <class 'saga.Thing'>"
    assert show(list[kind]) == "list[saga.Thing]"
    assert pickle.loads(pickle.dumps(kind(1))) == kind(1)


def test_two_flows_of_one_name_are_refused_with_both_places():
    write("one_d.py", FLOW.format(name="same"))
    write("two_d.py", "\n" + FLOW.format(name="same"))
    with pytest.raises(DiscoveryError, match=r"one_d\.py:14 and .*two_d\.py:15"):
        load_flows(["one_d", "two_d"])


def _point(name, load):
    return SimpleNamespace(name=name, value=f"{name}:x", load=load)


def test_entry_points_name_flows_or_modules(monkeypatch):
    write("shop_e.py", FLOW.format(name="a"))
    write("shop_f.py", FLOW.format(name="b"))
    flow = load_flows(["shop_e"])["a"]
    other = sys.modules["orchestrator"]
    points = [_point("flow", lambda: flow), _point("module", lambda: __import__("shop_f")), _point("l", lambda: [flow])]
    monkeypatch.setattr(discovery, "entry_points", lambda group: points if group == "orchestrator.flows" else [])
    assert sorted(load_flows()) == ["a", "b"]
    for load in (lambda: 3, lambda: other, lambda: 1 / 0):
        monkeypatch.setattr(discovery, "entry_points", lambda group, load=load: [_point("bad", load)])
        with pytest.raises(DiscoveryError, match="bad"):
            load_flows()
