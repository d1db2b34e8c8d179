"""Runs that were made of others: what they kept is as it was, and is not done again."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from tests.proof.history import History
from tests.proof.verdict import Violation

KEPT: Final = re.compile(r"kept from run (\S+?)(?:: |$)")


def kept(history: History, run_id: str) -> Mapping[str, str]:
    """By step that was taken over, the run that it was taken from."""
    steps = history.steps.get(run_id, {})
    found = {key: KEPT.match(row.get("reason", "")) for key, row in steps.items()}
    return {key: match[1] for key, match in found.items() if match}


def is_kept(taken: Mapping[str, str], key: str) -> bool:
    """Also of an item of a loop that was taken over."""
    return key.partition(".")[0] in taken


def reason(text: str) -> str:
    """As it was in the run before."""
    return KEPT.sub("", text)


def as_they_were(history: History, run_id: str) -> Iterator[Violation]:
    """Each step that was kept ended like this in the source, with this output; all before it was kept, too; it is not
    the one that was to run again; and nothing of it began."""
    taken = kept(history, run_id)
    graph = history.manifest_of(run_id)["steps"] if taken else {}
    outputs = {(row["run_id"], row["step_key"]): row.get("output") for row in history.final.get("flow_outputs", ())}
    for key, source in taken.items():
        row, before = history.steps[run_id][key], history.steps.get(source, {}).get(key, {})
        if row["status"] != before.get("status"):
            sentence = f"kept as {row['status']}, and it was {before.get('status')}"
            yield Violation("I5", sentence, run_id, key, (str(before),))
        if outputs.get((run_id, key)) != outputs.get((source, key)):
            yield Violation("I5", "kept with another output", run_id, key)
        if open_ := [name for name in graph[key].get("run_after", ()) if name not in taken]:
            yield Violation("I5", f"kept, and {', '.join(open_)} before it is not", run_id, key)
    for call in history.calls:
        if call.kind == "start" and call.run_id == run_id and call.step_key in taken:
            yield Violation("I5", "it was to run again, and is kept", run_id, call.step_key, (str(call),))
    for one in history.invocations:
        if one.run_id == run_id and is_kept(taken, one.step_key):
            yield Violation("I5", "kept, and it has a start line", run_id, one.step_key)
