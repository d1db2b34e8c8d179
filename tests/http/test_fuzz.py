"""Every route of the document with data that fits and data that does not, as Schemathesis makes it, against a server
with real servers behind it. `FUZZ_SEED` and `FUZZ_EXAMPLES` (of the slow one) choose others; what fails prints its
seed."""

import json
import os
from collections.abc import Iterator
from typing import Final

import pytest
import schemathesis
from schemathesis import engine
from schemathesis.engine import events
from schemathesis.engine.recorder import ScenarioRecorder

from orchestrator.client import Client
from orchestrator.settings import Settings
from tests.http.access import UNLIMITED, key
from tests.http.populated import DOCUMENT, WEBHOOK_SECRET, populate
from tests.support.listening import listening

FEW: Final = 2
FOUND_MUCH: Final = 722613674
"""A seed; another one is given as FUZZ_SEED."""
MANY: Final = 40
NO_END: Final = "event_stream"
"""Its answer has none: tests/http/test_stream.py reads it."""
ALSO_IDS: Final = ["run_active", "run_errors", "run_stats"]
"""DELETE at their paths is of a run that is called so."""
SENT_BY_POST: Final = {"positive_data_acceptance": {"expected-statuses": ["2xx", "400", "404", "405", "413"]}}
"""Most publishers ask nothing of a URL."""
REFUSED: Final = ["400", "401", "403", "404", "405", "409", "410", "412", "413", "415", "422", "431"]
"""A URL above the limit is 413 or, above the limit of a head, 431, whatever else is wrong with it."""
FITS: Final = ["2xx", "400", "401", "403", "404", "409", "410", "412", "413", "422"]
"""The document cannot say all: what a query means, which runs there are, what a flow takes."""


@pytest.fixture
def url(settings: Settings, stack: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(WEBHOOK_SECRET, "x" * 32)
    populate(stack)
    with listening(settings.model_copy(update=UNLIMITED)) as made:
        yield made


def asked(url: str, secret: str, seed: int, examples: int) -> tuple[int, list[str]]:
    """How many requests were sent, and what was wrong with the answers."""
    config = schemathesis.Config.from_dict(
        {
            "seed": seed,
            "base-url": url,
            "headers": {"Authorization": f"Bearer {secret}"},
            "continue-on-failure": True,
            "request-timeout": 30,
            "generation": {"max-examples": examples, "database": "none", "no-shrink": True},
            "checks": {
                "positive_data_acceptance": {"expected-statuses": FITS},
                "negative_data_rejection": {"expected-statuses": REFUSED},
            },
            "phases": {"stateful": {"enabled": False}},
            "operations": [
                {"include-operation-id": NO_END, "enabled": False},
                {"include-operation-id": "webhook_challenge", "checks": SENT_BY_POST},
                {"include-operation-id": ALSO_IDS, "checks": {"allow_header_conformance": {"enabled": False}}},
            ],
        }
    )
    document = json.loads(DOCUMENT.read_text("utf-8"))
    count, wrong = 0, []
    for event in engine.from_schema(schemathesis.openapi.from_dict(document, config=config)).execute():
        if isinstance(event, events.ScenarioFinished):
            count += len(event.recorder.interactions)
            wrong += failures(event.recorder)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            wrong.append(str(event.__dict__))
    return count, wrong


def failures(found: ScenarioRecorder) -> list[str]:
    told = []
    for case, checks in found.checks.items():
        response = found.interactions[case].response if case in found.interactions else None
        answer = None if response is None else f"{response.status_code} {response.content[:500]!r}"
        for check in checks:
            info = check.failure_info
            too_long = check.name == "unsupported_method" and response is not None and response.status_code == 413
            if info is not None and not too_long:
                said = f"{found.label}: {check.name}: {info.failure.title}\n{info.failure.message[:1000]}"
                told.append(f"{said}\n{info.code_sample[:1000]}\n{answer}")
    return told


def test_every_route_answers_as_the_document_says(url: str, stack: Client) -> None:
    seed = int(os.environ.get("FUZZ_SEED", 1))
    count, wrong = asked(url, key(stack, name="fuzzer"), seed, FEW)
    assert not wrong, f"FUZZ_SEED={seed}: {len(wrong)} of {count}\n" + "\n\n".join(wrong[:10])
    assert count > 1000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_route_answers_as_the_document_says_many_times(url: str, stack: Client) -> None:
    seed = int(os.environ.get("FUZZ_SEED", FOUND_MUCH))
    examples = int(os.environ.get("FUZZ_EXAMPLES", MANY))
    print(f"FUZZ_SEED={seed} FUZZ_EXAMPLES={examples}")
    _, wrong = asked(url, key(stack, name="fuzzer"), seed, examples)
    assert not wrong, f"FUZZ_SEED={seed} FUZZ_EXAMPLES={examples}: {len(wrong)}\n" + "\n\n".join(wrong[:10])
