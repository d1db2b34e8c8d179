"""`orchestrator queue`: what waits where, and who takes it."""

from typing import Final

from orchestrator.cli.options import Output, connected, group, verb
from orchestrator.cli.render import ago, listing

app: Final = group("See what is ready on which queue, and who takes it.")


@verb(app, "ls", "list")
def ls(output: Output = None) -> None:
    """List the queues: steps that are ready, since when, and that run; live workers; messages in the broker."""
    with connected() as client:
        rows = client.workers.queues()
    listing(
        rows,
        {
            "queue": lambda row: row.queue,
            "ready": lambda row: row.ready,
            "oldest": lambda row: ago(row.oldest) if row.oldest else "",
            "running": lambda row: row.running,
            "workers": lambda row: len(row.workers) or "none is live",
            "messages": lambda row: "the broker does not answer" if row.messages is None else row.messages,
        },
        output,
        empty="No queue has steps or workers. Start a worker with `orchestrator worker --flows MODULE`.",
    )
