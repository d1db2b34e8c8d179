"""What the input of a run says of each step, also of those inside of loops: how its handler ends, over how many items
it goes, what its condition gives, with which key it waits."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.proof.interpreter import Statuses, end_of, runs_a_graph

Step = Mapping[str, Any]


@dataclass
class Fates:
    """By the key of a step in the run."""

    ends: dict[str, Statuses] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    conditions: dict[str, Statuses] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """What a step reads of the input: that of its run, or of its item."""

    fates: Mapping[str, Any]
    lists: Mapping[str, Any]
    flags: Mapping[str, Any]
    keys: Mapping[str, Any]

    @classmethod
    def of_run(cls, body: Mapping[str, Any]) -> "Part":
        return cls(body["fates"], body["lists"], body.get("flags", {}), body.get("keys", {}))

    @classmethod
    def of_item(cls, item: Mapping[str, Any]) -> "Part":
        """The fates of its steps by their keys, the lists of its loops, and what else its steps read."""
        return cls(item, item, item.get("flags", {}), item.get("keys", {}))

    def items_of(self, key: str, loop: Step) -> list[Any]:
        """The list of a loop: of the input, or given by a step."""
        _, of_step, source = loop["for_each"].partition("@steps('")
        found: list[Any] = self.fates[source.split("'")[0]].get("items", []) if of_step else self.lists[key]
        return found


def steps_of(steps: Mapping[str, Step], part: Part, prefix: str = "") -> Iterator[tuple[str, Step, Part]]:
    """Every step of a graph and of its items: its key in the run, what the manifest says of it, what it reads of."""
    for key, step in steps.items():
        yield f"{prefix}{key}", step, part
        if not step.get("steps"):
            continue
        for n, item in enumerate(part.items_of(key, step)):
            if runs_a_graph(step):
                yield from steps_of(step["steps"], Part.of_item(item), f"{prefix}{key}.{n}.")
            else:
                (name,) = step["steps"]
                yield f"{prefix}{key}.{n}.{name}", step["steps"][name], Part({name: item}, {}, {}, {})


def fates_of(steps: Mapping[str, Step], body: Mapping[str, Any], called: Callable[[str, Step], Statuses]) -> Fates:
    """`called`: how a step that calls a flow ends."""
    found = Fates()
    for place, step, part in steps_of(steps, Part.of_run(body)):
        key = place.rpartition(".")[2]
        if "when" in step:
            found.conditions[place] = _said(part.flags[key])
        if "type" in step:
            found.ends[place] = end_of(part.fates[key], step)
        elif "flow" in step:
            found.ends[place] = called(place, step)
        elif "require" in step:
            found.ends[place] = frozenset({"succeeded" if part.flags[key] else "failed"})
        elif step.get("steps"):
            found.items[place] = len(part.items_of(key, step))
    return found


def _said(flag: Any) -> Statuses:
    """Of a condition that reads a flag."""
    return frozenset({str(flag).lower() if isinstance(flag, bool) else "error"})
