"""The flows of the code beside those of the ledger: what a deploy would change, and what open runs would miss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.cli.options import connected
from orchestrator.errors import FlowNotFound, ManifestUnreadable, SettingsInvalid, Unavailable

if TYPE_CHECKING:
    from orchestrator.authoring.flow import Flow
    from orchestrator.client import Client
    from orchestrator.core.manifest import Manifest, StepDef
    from orchestrator.core.planner import Node, Plan


@dataclass(frozen=True, slots=True)
class Stranded:
    """A step of open runs that the code could not run: it lacks the handler, or the handler does not fit."""

    step: str
    type: str
    open_runs: int
    why: str


@dataclass(frozen=True, slots=True)
class Drift:
    """One flow of the code. `state`: new, changed, unchanged, superseded, or unknown (the ledger was not asked)."""

    flow: str
    version: str
    manifest_hash: str
    steps: int
    state: str
    older_runs: int | None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: Mapping[str, str] | None = None
    """Old key to new one: steps that are alike but for their name."""
    stranded: tuple[Stranded, ...] = ()


def compare(flows: "Mapping[str, Flow[..., Any]]") -> tuple[list[Drift], bool]:
    """A row per flow, and whether the ledger answered."""
    try:
        with connected() as client:
            return [_compare(client, flow) for _, flow in sorted(flows.items())], True
    except (Unavailable, SettingsInvalid):
        return [_row(flow.manifest, "unknown", None) for flow in flows.values()], False


def _row(manifest: "Manifest", state: str, older: int | None, **found: Any) -> Drift:
    return Drift(manifest.name, manifest.version, manifest.hash, len(manifest.steps), state, older, **found)


def _compare(client: "Client", flow: "Flow[..., Any]") -> Drift:
    from orchestrator.ledger import reads
    from orchestrator.ledger.tx import Ledger

    manifest = flow.manifest
    try:
        versions = client.call(reads.flows.versions, flow.name)
    except FlowNotFound:
        return _row(manifest, "new", 0)
    current = next(row.hash for row in versions if row.current)
    superseded = any(row.superseded_at is not None for row in versions if row.hash == manifest.hash)
    state = "unchanged" if current == manifest.hash else "superseded" if superseded else "changed"
    older = sum(row.open_runs for row in versions if row.hash != manifest.hash)
    try:
        before = client.call(Ledger.manifest, current).steps
    except ManifestUnreadable:
        before = {}
    added = tuple(key for key in manifest.steps if key not in before)
    removed = tuple(key for key in before if key not in manifest.steps)
    renamed = _renamed({key: before[key] for key in removed}, {key: manifest.steps[key] for key in added})
    stranded = tuple(_stranded(client, flow)) if older else ()
    return _row(manifest, state, older, added=added, removed=removed, renamed=renamed or None, stranded=stranded)


def _renamed(removed: "Mapping[str, StepDef]", added: "Mapping[str, StepDef]") -> dict[str, str]:
    """Steps that have the same inputs under another key: most likely one was renamed."""
    left = dict(added)
    found = {}
    for old, definition in removed.items():
        same = next((new for new, other in left.items() if _work(other) == _work(definition)), None)
        if same is not None:
            found[old] = same
            del left[same]
    return found


def _work(step: "StepDef") -> object:
    return step.model_dump(include={"inputs", "for_each", "run_after"}), [_work(child) for child in step.steps.values()]


def _stranded(client: "Client", flow: "Flow[..., Any]") -> list[Stranded]:
    from orchestrator.ledger import reads
    from orchestrator.ledger.tx import Ledger

    found = []
    for (version, key), runs in sorted(client.call(reads.flows.open_steps, flow.name).items()):
        if version == flow.manifest.hash:
            continue
        try:
            plan: Plan = client.call(Ledger.plan, version)
        except ManifestUnreadable:
            found.append(Stranded(key, "?", runs, "a newer release wrote the version"))
            continue
        node = plan.nodes[key].body or plan.nodes[key]
        if why := _why_not(flow, node):
            found.append(Stranded(key, node.definition.type or "", runs, why))
    return found


def _why_not(flow: "Flow[..., Any]", node: "Node") -> str | None:
    handler = flow.handlers.get(node.definition.type or "")
    if handler is None:
        return "the code does not have it"
    return handler.misfit(node.definition.inputs.keys())


def problems(row: Drift) -> list[str]:
    """What a person should know before a deploy, each with what to do."""
    found = [
        f"{row.flow}: {one.open_runs} open {'run needs' if one.open_runs == 1 else 'runs need'} step {one.step} "
        f"(type `{one.type}`) of an older version, and {one.why}. Fix: {_fix(row, one)}"
        for one in row.stranded
    ]
    if row.state == "superseded":
        found.append(
            f"{row.flow}: this version was superseded; workers that start with it leave the newer one current. "
            f"Fix: if it is to be current again, `orchestrator flow deploy {row.flow}`."
        )
    return found


def _fix(row: Drift, one: Stranded) -> str:
    if new := (row.renamed or {}).get(one.step):
        renamed = (
            f'if it was renamed to {new}, write `@step(key="{one.type}")` on the function; else keep it and name it'
        )
        return f"{renamed} in `@flow(retired=[{one.type}])`."
    if one.why == "the code does not have it":
        return f"keep its function and name it in `@flow(retired=[{one.type}])` until they have ended."
    return "give the new parameter a default, or the changed function another key and the old one to `retired`."
