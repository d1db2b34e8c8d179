"""The order flow in a worker that dies once while it records an invoice: DIE_AT says before or after the commit."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from examples.orders import flow as orders
from orchestrator import Context
from orchestrator.engine import faults

place_order = orders.place_order
_record_invoice = orders.record_invoice.fn


def _die_once() -> None:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(Path(os.environ["TEST_FAULT_FOLDER"]) / "died", os.O_CREAT | os.O_EXCL))
        os.kill(os.getpid(), signal.SIGKILL)


def _deadly(ctx: Context, order: orders.Order, payment: orders.Payment) -> Any:
    invoice = _record_invoice(ctx, order, payment)
    if os.environ["DIE_AT"] == "before commit":
        _die_once()
    else:
        faults.arm("finish.committed", _die_once)
    return invoice


orders.record_invoice.fn = _deadly
