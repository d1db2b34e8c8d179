"""What the flows of a history are made of. The seed decides, or whoever asks for a kind of world."""

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from tests.simulation import flows, items

Made = dict[str, Any]
Add = Callable[[random.Random, Made], Made]

_ADDS: Final[Mapping[str, tuple[Add, Callable[[int], bool]]]] = {
    "naps": (flows.with_naps, lambda n: False),
    "waits": (flows.with_waits, lambda n: n > 0),
    "polls": (flows.with_polls, lambda n: n > 0),
    "items": (items.with_items, lambda n: n > 0),
    "naps in items": (partial(items.with_items, inside=items.naps), lambda n: n > 0),
    "waits in items": (partial(items.with_items, inside=items.waits), lambda n: n > 0),
    "polls in items": (partial(items.with_items, inside=flows.with_polls), lambda n: n > 0),
}
"""By kind of world, what is added to its flows, and which of them have joins and conditions."""
_CALLS: Final = {"calls": flows.with_calls, "calls in items": items.with_calls}
KINDS: Final = ("plain", *_ADDS, *_CALLS)


def kind_of(seed: int) -> str:
    """So that seeds in a row are of all kinds."""
    return KINDS[seed % len(KINDS)]


def flows_of(kind: str, seed: int) -> list[Made] | None:
    """None: those that a world makes by itself, in two releases."""
    if kind == "plain":
        return None
    rng = random.Random(f"{kind} {seed}")
    if kind in _CALLS:
        return _CALLS[kind](rng, [flows.manifest(rng, f"flow{n}", more=n > 0) for n in range(3)])
    add, more = _ADDS[kind]
    return [add(rng, flows.manifest(rng, f"flow{n}", more=more(n))) for n in range(2)]
