"""How a step looks that stands so, in every language that has colours."""

from typing import Final

from orchestrator.core.states import StepStatus

S = StepStatus
FILL: Final = {
    S.BLOCKED: "#eeeeee",
    S.READY: "#cfe2ff",
    S.RUNNING: "#9ec5fe",
    S.WAITING: "#ffe69c",
    S.SUCCEEDED: "#a3cfbb",
    S.FAILED: "#f1aeb5",
    S.SKIPPED: "#ffffff",
    S.CANCELLED: "#ced4da",
    S.COMPENSATED: "#e2d9f3",
}
