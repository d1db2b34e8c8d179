"""`python -m tests.monitoring`: each fault alone, on a real installation that a real Prometheus watches; a report."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestrator.ledger import migrate
from tests.monitoring.faults import FAULTS, Parts, Told, healthy, tried
from tests.monitoring.site import site
from tests.monitoring.test_live import busy, panels_that_err, panels_without_series
from tests.support.servers import broker, postgres


def main() -> int:
    with TemporaryDirectory(prefix="flow-", ignore_cleanup_errors=True) as text:
        folder = Path(text)
        with postgres(folder / "postgres") as server, broker(folder / "valkey") as redis:
            migrate.upgrade(server.admin_url)
            (folder / "site").mkdir()
            with site(server.admin_url, redis.url, folder / "site") as made:
                parts = Parts(made, made.worker(), made.beat())
                busy(made)
                healthy(made)
                told = []
                for fault in FAULTS:
                    told += tried(parts, fault)
                    healthy(made)
                wrong, empty = panels_that_err(made), panels_without_series(made)
    print(report(told, wrong, empty))
    return 1 if wrong or any(not good(one) for one in told) else 0


def good(one: Told) -> bool:
    """It fired once, resolved, and nothing else was said."""
    return one.told == ["firing", "resolved"] and not one.others


def report(told: list[Told], wrong: list[str], empty: set[str]) -> str:
    lines = ["| fault | alert | fired after, s | resolved after, s | told | others |", "|---|---|---:|---:|---|---|"]
    lines += [
        f"| {one.fault.name} | {one.fault.alert} | {one.fired_s:.0f} | {one.resolved_s:.0f} | {', '.join(one.told)} "
        f"| {', '.join(sorted(one.others)) or 'none'} |"
        for one in told
    ]
    panels = [f"Panels that err: {', '.join(wrong) or 'none'}.", f"Panels without series: {', '.join(sorted(empty))}."]
    return "\n".join([*lines, "", *panels])


if __name__ == "__main__":
    sys.exit(main())
