"""The rules and dashboards as they are shipped."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from orchestrator.observe.metrics.metric import Kind, Metric
from orchestrator.observe.metrics.table import METRICS

ROOT: Final = Path(__file__).parents[2]
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
DASHBOARDS: Final = ROOT / "deploy" / "grafana" / "dashboards"
RUNBOOKS: Final = ROOT / "docs" / "runbooks"
_PARTS: Final = ("_bucket", "_sum", "_count")


def groups() -> list[dict[str, Any]]:
    """Of the rules."""
    return list(yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"])


def rules() -> dict[str, dict[str, Any]]:
    """By the name of the alert."""
    return {rule["alert"]: rule for group in groups() for rule in group["rules"]}


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every panel, and of what fills the variables."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem}: {panel['title']}", target["expr"]


def filled(query: str) -> str:
    """With the variables of Grafana as they are for all."""
    return query.replace("$__rate_interval", "30s").replace("$flow", ".*").replace("$queue", ".*")


def series() -> dict[str, Metric]:
    """Every name that a scrape can show, and its metric."""
    found: dict[str, Metric] = {}
    for metric in METRICS:
        parts = _PARTS if metric.kind is Kind.HISTOGRAM else ("",)
        found |= {metric.prometheus + part: metric for part in parts}
    return found


def names(query: str) -> set[str]:
    """The metrics that a query asks for."""
    return set(re.findall(r"floworch_\w+", query))
