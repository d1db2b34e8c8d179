"""Flows and runs as drawings."""

import re
from typing import Any

import pytest

from orchestrator.core.manifest import Manifest
from orchestrator.core.pictures import Picture, Stand, drawn
from orchestrator.core.pictures.colours import FILL
from orchestrator.core.states import StepStatus
from orchestrator.errors import UsageError

STEPS: dict[str, Any] = {
    "price": {"type": "price", "retry": {"max_attempts": 3}},
    "big": {"type": "check", "when": "@steps('price').output > 100 && true", "run_after": {"price": ["succeeded"]}},
    "each": {
        "for_each": "@steps('price').output.items",
        "concurrency": 2,
        "steps": {"send": {"type": "send", "inputs": {"x": "@item()"}}},
    },
    "total": {"value": "@steps('big').output ?? 1", "join": "none_failed"},
    "ok": {"require": "@steps('total').output > 1", "message": "too small"},
    "rescue": {"type": "rescue", "run_after": {"big": ["failed"]}, "may_fail": True},
    "night": {"sleep": "P1D", "run_after": {"rescue": ["succeeded"]}},
    "last": {
        "type": "last",
        "join": "some",
        "run_after": {
            "each": ["succeeded", "failed", "skipped", "cancelled"],
            "rescue": ["succeeded", "skipped"],
            "night": ["succeeded"],
        },
    },
}
STANDS = {
    "price": Stand(StepStatus.SUCCEEDED),
    "big": Stand(StepStatus.SKIPPED),
    "each": Stand(StepStatus.RUNNING, "3 succeeded, 1 running"),
}


def picture(**stands: Stand) -> Picture:
    return Picture.of(Manifest(name="shop", steps=STEPS), stands=stands)


def test_a_flow_as_text() -> None:
    assert drawn(picture(), "tree").splitlines() == [
        "shop@1",
        "  price  [up to 3 attempts]",
        "  big (check)  <- price  [when @steps('price').output > 100 && true]",
        "  each (for each, 2 at a time)  <- price",
        "    send",
        "  total (merge)  <- big  [join none_failed]",
        "  ok (require @steps('total').output > 1)  <- total",
        "  rescue  <- big (failed)  [may fail]",
        "  night (sleep P1D)  <- rescue",
        "  last  <- each (any end), rescue (skipped or succeeded), night  [join some]",
    ]


def test_a_run_as_text() -> None:
    lines = drawn(picture(**STANDS), "tree").splitlines()
    assert lines[1] == "  price  [up to 3 attempts]  = succeeded"
    assert lines[3] == "  each (for each, 2 at a time)  <- price  = running: 3 succeeded, 1 running"


def test_a_run_as_mermaid() -> None:
    assert drawn(picture(**STANDS), "mermaid").splitlines() == [
        "flowchart TD",
        '    s0["price<br/>succeeded"]',
        """    s1["big<br/>check<br/>when @steps('price').output #gt; 100 #amp;#amp; true<br/>skipped"]""",
        '    subgraph s2["each: for each, 2 at a time, 3 succeeded, 1 running"]',
        '        s2_0["send"]',
        "    end",
        '    s3{{"total<br/>merge<br/>join none_failed"}}',
        """    s4{"ok<br/>require @steps('total').output #gt; 1"}""",
        '    s5["rescue"]',
        '    s6(["night<br/>sleep P1D"])',
        '    s7["last<br/>join some"]',
        "    s0 --> s1",
        "    s0 --> s2",
        "    s1 --> s3",
        "    s3 --> s4",
        "    s1 -->|failed| s5",
        "    s5 --> s6",
        "    s2 -->|any end| s7",
        "    s5 -->|skipped or succeeded| s7",
        "    s6 --> s7",
        "    classDef running fill:#9ec5fe,stroke:#666666,color:#000000",
        "    class s2 running",
        "    classDef skipped fill:#ffffff,stroke:#666666,color:#000000",
        "    class s1 skipped",
        "    classDef succeeded fill:#a3cfbb,stroke:#666666,color:#000000",
        "    class s0 succeeded",
    ]


def test_a_flow_for_graphviz() -> None:
    """Arrows to and from a loop go to a step in it, and end at its border."""
    text = drawn(picture(**STANDS), "dot")
    assert text.startswith('digraph "shop@1" {\n    compound=true;')
    assert text.count("{") == text.count("}")
    for line in (
        r's0 [label="price\nsucceeded", fillcolor="#a3cfbb"];',
        "subgraph cluster_s2 {",
        r'label="each\nfor each, 2 at a time\n3 succeeded, 1 running"; style=filled; fillcolor="#9ec5fe";',
        r's3 [label="total\nmerge\njoin none_failed", shape=hexagon];',
        "s0 -> s2_0 [lhead=cluster_s2];",
        's1 -> s5 [label="failed"];',
        's2_0 -> s7 [label="any end", ltail=cluster_s2];',
    ):
        assert line in text, text


@pytest.mark.parametrize("language", ["tree", "mermaid", "dot"])
def test_what_stands_in_a_condition_breaks_no_drawing(language: str) -> None:
    """Quotes, brackets and bars are of the language; a long text is cut."""
    when = f"@triggerBody().x == '] \"<b>|{{}}#\\' && @triggerBody().y == '{'long' * 30}'"
    text = drawn(Picture.of(Manifest(name="m", steps={"a": {"type": "a", "when": when}})), language)
    assert "longlonglong" * 5 not in text
    if language == "mermaid":
        assert re.fullmatch(r'    s0\["[^"<>|&]*"\]', text.splitlines()[1].replace("<br/>", " "))
    if language == "dot":
        (label,) = re.findall(r's0 \[label="((?:[^"\\]|\\.)*)"\];', text)
        assert "a" in label


def test_waits_for_people_say_for_what() -> None:
    steps = {
        "paid": {"signal": {"name": "paid", "timeout": "P1D"}},
        "ok": {"approval": {"title": "Ship it?", "to": "sales"}},
        "late": {"signal": {"name": "late", "until": "2026-01-31T12:00:00+01:00"}},
        "ship": {"type": "ship", "run_after": {key: ["succeeded"] for key in ("paid", "ok", "late")}},
    }
    assert drawn(Picture.of(Manifest(name="m", steps=steps)), "tree").splitlines()[1:4] == [
        "  paid (signal paid within 24 h)",
        "  ok (the answer to 'Ship it?')",
        "  late (signal late until 2026-01-31T12:00:00+01:00)",
    ]


def test_calls_of_flows_and_loops_that_go_on() -> None:
    steps = {
        "pay": {"flow": "payments", "inputs": {"amount": 1}},
        "tell": {"flow": "mails", "detached": True},
        "each": {"for_each": [1], "errors": "collect", "steps": {"send": {"type": "send"}}},
    }
    made = Picture.of(Manifest(name="m", steps=steps))
    assert drawn(made, "tree").splitlines()[1:4] == [
        "  pay (calls flow payments)",
        "  tell (starts flow mails)",
        "  each (for each)  [collects errors]",
    ]
    assert '    s0[["pay<br/>calls flow payments"]]' in drawn(made, "mermaid")
    assert "shape=component" in drawn(made, "dot")


def test_every_status_has_a_colour() -> None:
    assert set(FILL) == set(StepStatus)


def test_another_language_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean `mermaid`"):
        drawn(picture(), "mermade")


def test_a_flow_without_steps() -> None:
    assert drawn(Picture.of(Manifest(name="none", steps={})), "tree") == "none@1"
