"""`orchestrator deploy`: how far a deploy is."""

from typing import TYPE_CHECKING, Final

from orchestrator.cli.options import Output, connected, group, verb
from orchestrator.cli.render import Format, note, numbered, print_json, table
from orchestrator.core.wording import counted

if TYPE_CHECKING:
    from orchestrator.core.releases import Need, Release

app: Final = group("Releases of your code: which are needed, and which may be stopped.")

_LISTED: Final = 5


@verb(app, "status", "ls")
def status(output: Output = None) -> None:
    """List the releases of the code that live workers have, and what needs each: open runs that no other can run.

    A release is called what ORCHESTRATOR_RELEASE says, or after its versions. One that is `drained` may be stopped.
    """
    with connected() as client:
        found = client.workers.releases()
    if output in (Format.JSON, Format.JSONL):
        print_json(found, lines=output is Format.JSONL)
        return
    if not found.releases and not found.unserved:
        note("No worker is live. Start one with `orchestrator worker --flows MODULE`, or `orchestrator dev`.")
        return
    table(
        ["release", "state", "workers", "queues", "orchestrator", "needed for"],
        [_row(one) for one in found.releases],
    )
    for need in found.unserved:
        note(f"No live worker has the code of {_named(need)}. Fix: start workers of that release again.")


def _row(one: "Release") -> list[object]:
    packages = ", ".join(one.package)
    return [one.name, _state(one), one.workers, ", ".join(one.queues), packages, _needs(one.needs)]


def _state(one: "Release") -> str:
    return "drained: may be stopped" if one.state == "drained" else str(one.state)


def _needs(needs: "tuple[Need, ...]") -> str:
    told = [_named(need) for need in needs[:_LISTED]]
    more = len(needs) - _LISTED
    return ", ".join([*told, *([f"{more} more"] if more > 0 else [])])


def _named(need: "Need") -> str:
    """`shop v3 (2 open runs)`."""
    why = [counted(need.runs, "open run")] if need.runs else []
    why += ["new runs"] if need.current else []
    return f"{need.flow} {numbered(need.ordinal, need.manifest_hash)} ({', '.join(why)})"
