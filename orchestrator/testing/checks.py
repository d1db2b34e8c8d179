"""What can be said of a flow without running it."""

from orchestrator.authoring.flow import AnyFlow
from orchestrator.core.compare import alone
from orchestrator.core.plan import Plan


def check_flow(flow: AnyFlow, /) -> list[str]:
    """What is rarely meant in this flow: waits without an end, a call of itself. Each is a sentence; none: an empty
    list. A branch that can never run is refused where the flow is defined. No database is needed.
    """
    Plan.of(flow.manifest)
    return [f"{found.what}. Fix: {found.fix}." for found in alone(flow.manifest)]
