"""Webhooks of flows that publishers of a soak call."""

import random
from collections.abc import Mapping
from typing import Any, Final

SECRET: Final = "a key that publishers share"
SECRETS: Final[Mapping[str, str]] = {"EDGE_SECRET": SECRET, "EDGE_STANDARD": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"}
"""Environment of whoever takes deliveries."""
MUTANT: Final = "TEST_MUTANT"
"""The variable that names how whoever runs there is broken."""
HOOKED: Final = "hooked"
"""The flow that each of the `HOOKS` starts."""
ORDERED: Final = "ordered"
"""One delivery starts it, and another is the signal that it waits for."""
SMALL: Final = (HOOKED, ORDERED, "choice", "below")
"""What clients start; the first two are what publishers start, too."""
PAID: Final = "paid"
"""That signal. Nobody else sends it."""


def _hook(scheme: str, secret: str = "EDGE_SECRET", **fields: Any) -> dict[str, Any]:
    """The whole body is what the run, or the signal, gets."""
    return {"type": "webhook", "scheme": scheme, "secret": f"env:{secret}", "rate": {"limit": 1_000_000}, **fields}


HOOKS: Final[Mapping[str, Any]] = {
    "hook-stripe": _hook("stripe"),
    "hook-github": _hook("github"),
    "hook-standard": _hook("standard_webhooks", "EDGE_STANDARD"),
    "hook-generic": _hook("generic"),
    # It signs each try anew, and no id: what tells that two are the same is in the body.
    "hook-slack": _hook("slack", idempotency_key="@triggerBody().id"),
}
ORDERS: Final[Mapping[str, Any]] = {
    "order-created": _hook("standard_webhooks", "EDGE_STANDARD"),
    "order-paid": _hook("stripe", signal=PAID, run="@triggerBody().order", search="order"),
}
ORDERS_FIELDS: Final[Mapping[str, Any]] = {
    "triggers": ORDERS,
    "search": ["order"],
    "input_schema": {"type": "object", "properties": {"order": {"type": "string"}}},
}


def body(rng: random.Random, **facts: Any) -> dict[str, Any]:
    """The input of a run of either: what its steps do, and what its publisher says."""
    fates = {key: {"s": rng.choice((0, 0, 0, 0.05)), "f": rng.choice((0, 0, 0, 0, 1))} for key in ("s0", "s1")}
    return {**facts, "fates": fates, "lists": {}}
