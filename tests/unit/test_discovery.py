"""Flows are found in modules, files and entry points; what is wrong names the user's own line."""

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.authoring import discovery
from orchestrator.authoring.discovery import load_flows
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
    path.write_text(text)
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
        ({}, "a-b", "is no module name"),
        ({}, "", "is no module name"),
        ({}, "no/such.py", "There is no file no/such.py"),
        ({"e1.py": "x = 1\n\nimport nosuch_q\n"}, "e1", "e1.py:3"),
        ({"e2.py": "def f():\n    return 1 / 0\nf()\n"}, "e2.py", "ZeroDivisionError: division by zero at"),
        ({"e2.py": "def f():\n    return 1 / 0\nf()\n"}, "e2.py", "e2.py:2"),
        ({"e3.py": "x = 1\nif:\n"}, "e3.py", "e3.py:2"),
        ({"e4.py": "x = 1\n"}, "e4", "e4 holds no flow"),
        (
            {"e5.py": FLOW.format(name="a") + "\n@flow\ndef bad(n: int) -> None:\n    if n:\n        pass\n"},
            "e5.py",
            "e5.py:20: the flow's input `n` was used as a condition",
        ),
        ({"e6.txt": "x"}, "./e6.txt", "is no Python file"),
    ],
)
def test_what_cannot_be_loaded_names_the_reason(files, spec, says):
    for name, text in files.items():
        write(name, text)
    with pytest.raises(DiscoveryError, match="Fix: ") as caught:
        load_flows([spec])
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


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
