"""What a program does with a client that was generated. It runs where `flows_client` is, and nothing of ours."""

import json
import sys

from flows_client import AuthenticatedClient
from flows_client.api.flows import run_start, run_start_many
from flows_client.api.runs import run_cancel, run_export, run_ls, run_show
from flows_client.api.steps import run_steps
from flows_client.models import Batch, BatchInputsItem, Problem, Runs, RunStartBodyType0, RunStatus, Why


def main(url: str, key: str) -> None:
    """Start a run, look at it, be refused, stop it; print what was seen."""
    said = RunStartBodyType0.from_dict({"name": "you"})
    with AuthenticatedClient(base_url=url, token=key) as client:
        run = run_start.sync("hello", client=client, body=said, tag=["generated"], idempotency_key="k")
        again = run_start.sync("hello", client=client, body=said, tag=["generated"], idempotency_key="k")
        shown = run_show.sync(str(run.id), client=client)
        steps = run_steps.sync(str(run.id), client=client)
        other = run_start.sync("hello", client=client, body=RunStartBodyType0.from_dict({}))
        inputs = [BatchInputsItem.from_dict({"name": str(number)}) for number in range(3)]
        many = run_start_many.sync("hello", client=client, body=Batch(inputs=inputs))
        listed = run_ls.sync(client=client, status=[RunStatus.PENDING], limit=2)
        assert isinstance(listed, Runs)
        assert isinstance(other, Problem)
        stopped = run_cancel.sync(str(run.id), client=client, body=Why(reason="enough"))
        lines = run_export.sync_detailed(client=client, tag="generated").content.decode().splitlines()
    seen = {
        "run": str(run.id),
        "created": [run.created, again.created],
        "same": again.id == run.id,
        "flow": shown.flow,
        "steps": [step.key for step in steps.items],
        "refused": other.code,
        "many": len(many.items),
        "page": [len(listed.items), bool(listed.next_)],
        "stopped": str(stopped.status),
        "exported": json.loads(lines[0])["run"],
    }
    print(json.dumps(seen))


main(*sys.argv[1:])
