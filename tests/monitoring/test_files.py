"""Rules, dashboards and runbooks belong together, and ask for nothing that nobody exports."""

import re
from pathlib import Path

import pytest
import yaml

from deploy.grafana import build
from orchestrator.observe.metrics import table
from orchestrator.observe.metrics.metric import Metric, Source
from tests.docs import pages
from tests.monitoring import files
from tests.support import prometheus

RULES = files.rules()
ASKED = [*((name, rule["expr"]) for name, rule in RULES.items()), *files.queries()]
SERIES = files.series()
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


@pytest.mark.parametrize(("where", "query"), ASKED, ids=[where for where, _ in ASKED])
def test_what_is_asked_for_is_in_the_table(where: str, query: str) -> None:
    assert files.names(query)
    assert files.names(query) <= set(SERIES)


def used() -> set[str]:
    """The words of our modules, but for the table itself."""
    folders = [files.ROOT / name for name in ("orchestrator", "workers", "schedules")]
    paths = [path for folder in folders for path in folder.rglob("*.py") if path.name != "table.py"]
    return {word for path in paths for word in re.findall(r"\b[A-Z_]{5,}\b", path.read_text())}


def test_what_is_asked_for_is_set_by_some_process() -> None:
    """The table may be ahead of the code."""
    constants = {metric: name for name, metric in vars(table).items() if isinstance(metric, Metric)}
    asked = {constants[SERIES[name]] for _, query in ASKED for name in files.names(query)}
    assert asked - used() == set()


@pytest.mark.parametrize(("where", "query"), ASKED, ids=[where for where, _ in ASKED])
def test_labels_are_those_of_the_metric(where: str, query: str) -> None:
    """`le`, and what Prometheus adds to a target, besides."""
    known = {label.name for name in files.names(query) for label in SERIES[name].labels} | {"le", "job"}
    grouped = {word for listed in re.findall(r"by \(([^)]*)\)", query) for word in re.findall(r"\w+", listed)}
    matched = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", query))
    assert grouped | matched <= known


@pytest.mark.parametrize("name", RULES)
def test_every_alert_has_a_page_a_dashboard_and_a_test(name: str) -> None:
    rule = RULES[name]
    assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
    assert rule["annotations"]["dashboard"] in {one.uid for one in build.DASHBOARDS}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    text = (files.RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    tested = yaml.safe_load((files.PROMETHEUS / "tests" / "alerts.yaml").read_text())["tests"]
    (test,) = (one for one in tested if one["name"] == name)
    assert [bool(one["exp_alerts"]) for one in test["alert_rule_test"]] == [False, True, False]


def test_the_list_of_runbooks_is_that_of_the_alerts() -> None:
    rows = pages.table(pages.section("docs/runbooks/README.md", "Runbooks"))
    listed = {re.findall(r"\[(\w+)\]", row[0])[0]: row[1] for row in rows}
    assert listed == {name: rule["labels"]["severity"] for name, rule in RULES.items()}
    assert {path.stem for path in files.RUNBOOKS.glob("*.md")} == {*RULES, "README"}


def test_gauges_of_the_exporter_are_not_added_up_over_replicas() -> None:
    for where, query in ASKED:
        for name in files.names(query):
            if SERIES[name].sources == (Source.EXPORTER,) and not query.startswith("label_values"):
                assert re.search(rf"(max|count|absent)[^()]*(\([^()]*\) )?\({name}", query), (where, query)


def test_the_dashboards_are_as_they_are_described() -> None:
    again = "write them anew: python -m deploy.grafana.build"
    assert {path.name: path.read_text() for path in files.DASHBOARDS.glob("*.json")} == build.texts(), again


def test_the_rules_are_rules_and_do_what_they_say() -> None:
    """Each fires, stays silent, and resolves."""
    assert f"SUCCESS: {len(RULES)} rules found" in prometheus.run(
        "promtool", "check", "rules", files.PROMETHEUS / "rules.yaml"
    )
    assert "SUCCESS" in prometheus.run("promtool", "test", "rules", files.PROMETHEUS / "tests" / "alerts.yaml")


def test_a_rule_that_says_something_else_fails_its_test(tmp_path: Path) -> None:
    text = (files.PROMETHEUS / "rules.yaml").read_text()
    (tmp_path / "tests").mkdir()
    (tmp_path / "rules.yaml").write_text(text.replace("floworch_queue_unserved) > 0", "floworch_queue_unserved) > 100"))
    told = yaml.safe_load((files.PROMETHEUS / "tests" / "alerts.yaml").read_text())
    told["tests"] = [test for test in told["tests"] if test["name"] == "QueueUnserved"]
    (tmp_path / "tests" / "alerts.yaml").write_text(yaml.safe_dump(told))
    with pytest.raises(AssertionError, match="QueueUnserved"):
        prometheus.run("promtool", "test", "rules", tmp_path / "tests" / "alerts.yaml")


def test_the_scrape_configuration_is_one(tmp_path: Path) -> None:
    text = (files.PROMETHEUS / "prometheus.yaml").read_text()
    (tmp_path / "key").write_text("orc_…")
    (tmp_path / "prometheus.yaml").write_text(text.replace("/run/secrets/metrics_key", str(tmp_path / "key")))
    (tmp_path / "rules.yaml").write_text((files.PROMETHEUS / "rules.yaml").read_text())
    prometheus.run("promtool", "check", "config", tmp_path / "prometheus.yaml")


@pytest.mark.parametrize(("severity", "receiver"), [("page", "pager"), ("ticket", "tickets")])
def test_alerts_go_where_the_example_says(severity: str, receiver: str) -> None:
    config = files.PROMETHEUS / "alertmanager.yaml"
    prometheus.run("amtool", "check-config", config)
    said = prometheus.run(
        "amtool", "config", "routes", "test", f"--config.file={config}", "alertname=X", f"severity={severity}"
    )
    assert said.split()[-1] == receiver


def test_what_is_silenced_for_another_are_alerts() -> None:
    text = (files.PROMETHEUS / "alertmanager.yaml").read_text()
    named = {one for listed in re.findall(r'alertname=~?"([^"]*)"', text) for one in listed.split("|")}
    assert named <= set(RULES)
