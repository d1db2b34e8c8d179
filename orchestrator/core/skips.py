"""Why a step is skipped, in words."""

from collections.abc import Mapping

from orchestrator.core.gates import Join
from orchestrator.core.plan import Node
from orchestrator.core.states import StepStatus


def by_join(node: Node, states: Mapping[str, StepStatus]) -> str:
    """Why the ends of its predecessors do not let a step go: the first edge that is not met, in the manifest's
    order."""
    asked = node.definition.run_after
    unmet = [key for key, accepted in asked.items() if states[key] not in accepted]
    if node.join in (Join.ANY, Join.SOME):
        usual = all(accepted == (StepStatus.SUCCEEDED,) for accepted in asked.values())
        return f"none of {', '.join(asked)} {'succeeded' if usual else 'ended as `run_after` asks'}"
    if node.join is Join.NONE_FAILED:
        unmet = [key for key in unmet if states[key] is not StepStatus.SKIPPED]
        if not unmet:
            return f"{', '.join(asked)} {'were all' if len(asked) > 1 else 'was'} skipped"
    first = unmet[0]
    how = states[first] if states[first] in (StepStatus.FAILED, StepStatus.SUCCEEDED) else f"was {states[first]}"
    return f"{first} {how}, `run_after` asks for {' or '.join(asked[first])}"
