"""How long to wait before the next attempt."""

from datetime import timedelta

from orchestrator.core.manifest import Backoff


def delay(backoff: Backoff, failed_attempts: int, random01: float) -> timedelta:
    """The pause after the `failed_attempts`-th failure (from 1).

    Exponential: up to first x 2^(failures-1), at most the cap, spread evenly from 0 by `random01` (0 <= r < 1; "full
    jitter", so that steps which failed together do not come back together). A list is used as it is written.
    """
    failures = max(failed_attempts, 1)
    if backoff.delays:
        return backoff.delays[min(failures, len(backoff.delays)) - 1]
    doublings = min(failures - 1, 64)  # 2^64 of the smallest unit is past any cap; keeps the product finite
    ceiling_s = min(backoff.cap.total_seconds(), backoff.first.total_seconds() * 2.0**doublings)
    return timedelta(seconds=ceiling_s * random01)
