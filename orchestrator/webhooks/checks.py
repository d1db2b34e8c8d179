"""What can be wrong with the webhooks of a manifest that its fields cannot tell: the scheme, the list of addresses."""

from collections.abc import Iterator

from orchestrator.core.manifest import Manifest
from orchestrator.core.problem import Problem
from orchestrator.errors import UsageError
from orchestrator.webhooks.addresses import AddressList
from orchestrator.webhooks.schemes import scheme_of


def problems(manifest: Manifest) -> Iterator[Problem]:
    """Every problem, in the order of the manifest."""
    for slug, trigger in manifest.webhooks.items():
        try:
            form = scheme_of(trigger).form
        except UsageError as exc:
            yield _problem(f"triggers.{slug}.scheme", exc)
        else:
            window = trigger.tolerance or form.tolerance
            if form.time is not None and trigger.remember < 2 * window:
                yield Problem(
                    f"triggers.{slug}.remember",
                    "it is shorter than the time in which a delivery may come again",
                    "make it at least twice the `tolerance`",
                )
            if form.time is None and trigger.tolerance is not None:
                yield Problem(
                    f"triggers.{slug}.tolerance", f"the scheme {trigger.scheme} signs no time", "leave it out"
                )
        try:
            AddressList.parse(trigger.addresses)
        except UsageError as exc:
            yield _problem(f"triggers.{slug}.addresses", exc)


def _problem(place: str, exc: UsageError) -> Problem:
    what, _, fix = exc.message.partition(" Fix: ")
    return Problem(place, what.rstrip("."), fix or None)
