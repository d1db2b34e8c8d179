"""The flows of the code beside those of a ledger or a file: what a deploy would change, and what would break."""

import inspect
import json
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from orchestrator.cli.options import connected, settings
from orchestrator.errors import FlowNotFound, ManifestUnreadable, SettingsInvalid, UsageError

if TYPE_CHECKING:
    from orchestrator.authoring.flow import Flow
    from orchestrator.cli.options import AnyClient
    from orchestrator.core.compare import Finding, Need, Verdict
    from orchestrator.core.manifest import Manifest

_LOOKED_AT: Final = 100
"""Outputs of open runs that are held against a parameter."""
Others: TypeAlias = "Mapping[str, tuple[Manifest, Mapping[str, Any]]]"
"""The flows of the code by name, each with what its functions take, by type."""
UNKNOWN: Final = "unknown"
"""The state of a flow where there was nothing to compare it with."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One flow of the code. `state`: new, changed, unchanged, superseded, or unknown (nothing was asked)."""

    flow: str
    version: str
    manifest_hash: str
    steps: int
    state: str
    older_runs: int | None
    verdict: "Verdict"
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: Mapping[str, str] | None = None
    """Old key to new one: steps that are alike but for their name."""
    stranded: "tuple[Need, ...]" = ()
    findings: "tuple[Finding, ...]" = ()


def compare(flows: "Mapping[str, Flow[..., Any]]", against: str | None) -> tuple[list[Drift], bool]:
    """A row per flow, and whether there was something to compare it with: a ledger by its URL, a file of manifests, or
    the ledger of the environment, if that is named.

    Raises:
        UsageError, ManifestInvalid: the file cannot be read.
        Unavailable: the ledger does not answer.
    """
    in_order = [flow for _, flow in sorted(flows.items())]
    others: Others = {flow.name: (flow.manifest, _takes(flow)) for flow in in_order}
    if against is not None and "://" not in against:
        kept = {manifest.name: manifest for manifest in _read(against)}
        known = {*others, *kept}
        return [_called(_beside_file(flow, kept.get(flow.name), others), flow, known) for flow in in_order], True
    try:
        with _ledger(against) as client:
            known = {*others, *(flow.name for flow in client.flows.listed())}
            return [_called(_beside_ledger(client, flow, others), flow, known) for flow in in_order], True
    except SettingsInvalid:
        if against is not None:
            raise
        return [_row(flow, UNKNOWN, None) for flow in in_order], False


@contextmanager
def _ledger(url: str | None) -> "Iterator[AnyClient]":
    if url is None:
        with connected() as client:
            yield client
        return
    from pydantic import SecretStr

    from orchestrator.client import Client

    with Client(settings().model_copy(update={"database_url": SecretStr(url)})) as client:
        yield client


def _read(path: str) -> "list[Manifest]":
    """Manifests of a file: one, a list, or what `flow show -o json` prints; or a line for each."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise UsageError(f"--against {path} cannot be read: {reason}. Fix: check the path.") from exc
    try:
        values = [json.loads(text)]
    except ValueError as exc:
        try:
            values = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise UsageError(
                f"--against {path} is not JSON: {exc}. Fix: `orchestrator flow show FLOW -o json` writes such a file."
            ) from exc
    return [_manifest(value) for value in _flat(values)]


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value.get("manifest", value) if isinstance(value, dict) else value


def _manifest(value: object) -> "Manifest":
    from orchestrator.core.manifest import Manifest

    return Manifest.from_json(json.dumps(value))


def _row(flow: "Flow[..., Any]", state: str, older: int | None, **found: Any) -> Drift:
    from orchestrator.core.compare import worst

    manifest = flow.manifest
    verdict = worst(found.get("findings", ()))
    return Drift(manifest.name, manifest.version, manifest.hash, len(manifest.steps), state, older, verdict, **found)


def _called(row: Drift, flow: "Flow[..., Any]", known: Container[str]) -> Drift:
    """With the calls of it that lead nowhere."""
    from orchestrator.core.compare import nowhere, worst

    findings = (*row.findings, *nowhere(flow.manifest, known))
    return replace(row, findings=findings, verdict=worst(findings))


def held_to(row: Drift, flow: "Flow[..., Any]", grace: timedelta) -> Drift:
    """With the steps that may run longer than a worker with this grace waits for them, unless they hand over."""
    from orchestrator.core.compare import worst
    from orchestrator.core.stopping import outlasting

    codes = {type_: getattr(inspect.unwrap(step.fn), "__code__", None) for type_, step in flow.handlers.items()}
    handing_over = {type_ for type_, code in codes.items() if code is not None and _names(code, "hand_over")}
    findings = (*row.findings, *outlasting(flow.manifest, grace, handing_over))
    return replace(row, findings=findings, verdict=worst(findings))


def _names(code: CodeType, name: str) -> bool:
    """Whether the code of a function, or of one inside of it, names such an attribute."""
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return name in code.co_names or any(_names(one, name) for one in inner)


def _new(flow: "Flow[..., Any]", older: int | None) -> Drift:
    from orchestrator.core.compare import alone

    return _row(flow, "new", older, findings=tuple(alone(flow.manifest)))


def _beside_file(flow: "Flow[..., Any]", old: "Manifest | None", others: "Others") -> Drift:
    """Which runs there are of the version in the file, nobody knows here."""
    from orchestrator.core.compare import called

    if old is None:
        return _new(flow, None)
    if old.hash == flow.manifest.hash:
        return _row(flow, "unchanged", None)
    further = (*called(old, flow.manifest, others), *_pending(flow, old, None, others))
    return _changed(flow, "changed", None, old, _needs(flow, old, None), further)


def _beside_ledger(client: "AnyClient", flow: "Flow[..., Any]", others: "Others") -> Drift:
    from orchestrator.core.compare import Finding, Verdict, called

    try:
        versions = client.flows.versions(flow.name)
    except FlowNotFound:
        return _new(flow, 0)
    current = next(row.hash for row in versions if row.current)
    own = next((row for row in versions if row.hash == flow.manifest.hash), None)
    older = sum(row.open_runs for row in versions if row is not own)
    needs, further = _stranded(client, flow, others) if older else ([], [])
    if any(row.open_runs for row in versions):  # the types of steps may change while the flow does not
        further += _misread(client, flow)
    if current == flow.manifest.hash:
        return _changed(flow, "unchanged", older, flow.manifest, needs, further)
    state = "superseded" if own is not None and own.superseded_at is not None else "changed"
    if state == "superseded":
        further.append(
            Finding(
                Verdict.WARN,
                "this version was superseded; workers that start with it leave the newer one current",
                f"if it is to be current again, `orchestrator flow deploy {flow.name}`",
            )
        )
    try:
        old = client.flows.manifest(current)
    except ManifestUnreadable:
        further.append(Finding(Verdict.UNKNOWN, "a newer release wrote the current version", "use that release"))
        return _changed(flow, state, older, flow.manifest, needs, further)
    return _changed(flow, state, older, old, needs, [*further, *called(old, flow.manifest, others)])


def _changed(
    flow: "Flow[..., Any]",
    state: str,
    older: int | None,
    old: "Manifest",
    needs: "list[Need]",
    further: "Iterable[Finding]" = (),
) -> Drift:
    from orchestrator.core.compare import alone, changes, judged, renamed

    new = flow.manifest
    again = renamed(old, new, flow.handlers)
    findings = [judged(need, again.get(need.step)) for need in needs]
    return _row(
        flow,
        state,
        older,
        added=tuple(key for key in new.steps if key not in old.steps),
        removed=tuple(key for key in old.steps if key not in new.steps),
        renamed=again or None,
        stranded=tuple(needs),
        findings=(
            *findings,
            *further,
            *changes(old, new, flow.handlers),
            *(alone(new) if old.hash != new.hash else ()),
        ),
    )


def _misread(client: "AnyClient", flow: "Flow[..., Any]") -> "Iterator[Finding]":
    """What steps gave in open runs, and functions of the code that read it do not take."""
    from orchestrator.core.compare import given, unread
    from orchestrator.core.results import readings
    from orchestrator.ledger.reads.flows import Reader

    open_ = {(one.manifest_hash, one.step) for one in client.flows.open_steps(flow.name)}
    for version in sorted({version for version, _ in open_}):
        try:
            old = client.flows.manifest(version)
        except ManifestUnreadable:  # said elsewhere
            continue
        for one in readings(old, _takes(flow)):
            if (version, one.step) in open_:
                by = Reader(flow.name, version, one.step, one.source)
                outputs, left = client.flows.given_outputs(by, _LOOKED_AT)
                if (found := given(one, outputs)) is not None:
                    yield found
                if left:
                    yield unread(one, left)


def _pending(
    flow: "Flow[..., Any]", old: "Manifest", open_runs: Mapping[str, int] | None, others: "Others"
) -> "Iterator[Finding]":
    """What steps of an older version have yet to give, and functions of the code that read it may not take."""
    from orchestrator.core.compare import pending
    from orchestrator.core.pending_results import Code, unfit

    gives = {type_: step.gives for type_, step in flow.handlers.items()}
    flows = {name: manifest.output_schema or {} for name, (manifest, _) in others.items()}
    for one in unfit(old, flow.manifest, Code(_takes(flow), gives, flows)):
        if open_runs is None or one.source in open_runs:
            yield pending(one, None if open_runs is None else open_runs[one.source])


def _takes(flow: "Flow[..., Any]") -> dict[str, Mapping[str, Any]]:
    return {type_: step.takes for type_, step in flow.handlers.items()}


def _needs(flow: "Flow[..., Any]", old: "Manifest", open_runs: Mapping[str, int] | None) -> "list[Need]":
    from orchestrator.core.compare import needs

    return list(needs(old, flow.manifest, flow.handlers, open_runs))


def _stranded(client: "AnyClient", flow: "Flow[..., Any]", others: "Others") -> "tuple[list[Need], list[Finding]]":
    """What open runs of other versions need; and what else there is to say of them."""
    from orchestrator.core.compare import Finding, Verdict, parked

    by_version: dict[str, dict[str, int]] = {}
    for one in client.flows.open_steps(flow.name):
        by_version.setdefault(one.manifest_hash, {})[one.step] = one.runs
    by_version.pop(flow.manifest.hash, None)
    found: list[Need] = []
    further: list[Finding] = []
    for version, open_runs in by_version.items():
        try:
            old = client.flows.manifest(version)
        except ManifestUnreadable:
            what = f"open runs are of version {version[:12]}, which a newer release wrote"
            further.append(Finding(Verdict.UNKNOWN, what, "use that release"))
            continue
        found += _needs(flow, old, open_runs)
        further += parked(old, flow.manifest, open_runs)
        further += _pending(flow, old, open_runs, others)
    return found, further


def problems(row: Drift) -> list[str]:
    """What a person should know before a deploy, each with what to do."""
    return [
        f"{one.verdict}: {row.flow}: {one.what}.{f' Fix: {one.fix}.' if one.fix else ''}"
        for one in row.findings
        if one.verdict != "safe"
    ]


def exit_code(rows: Iterable[Drift], *, strict: bool, reached: bool) -> int:
    """0: safe. 1: a break. 2: that cannot be told; without a ledger only `strict` wants to know."""
    verdicts = {str(row.verdict) for row in rows}
    if "break" in verdicts or (strict and "warn" in verdicts):
        return 1
    return 2 if "unknown" in verdicts or (strict and not reached) else 0


def plain(row: Drift) -> dict[str, object]:
    """For JSON."""
    return asdict(row)
