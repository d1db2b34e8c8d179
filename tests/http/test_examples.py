"""The examples of the document: each fits its schema, requests are taken, and answers look as they do."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.http import examples
from orchestrator.http.policy import PUBLIC
from tests.http.test_replays import ACTS, OWN, begun, ended, stack

__all__ = ["stack"]

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text("utf-8"))
OPERATIONS: dict[str, dict[str, Any]] = {
    one["operationId"]: one for path in DOCUMENT["paths"].values() for one in path.values()
}
CONTENTS: dict[str, dict[str, Any]] = {}
"""All that has an example."""
for name, operation in OPERATIONS.items():
    bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
    for place, body in bodies.items():
        content = body.get("content", {}).get("application/json", {})
        if "example" in content:
            CONTENTS[f"{name} {place}"] = content


def wrong(content: dict[str, Any]) -> list[str]:
    """What of an example does not fit its schema, whose references lead into the document."""
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(content["example"])]


@pytest.mark.parametrize("name", CONTENTS)
def test_an_example_fits_its_schema(name: str) -> None:
    assert wrong(CONTENTS[name]) == []


def test_an_example_that_does_not_fit_is_found() -> None:
    content = CONTENTS["operation_create request"]
    assert wrong({**content, "example": {**content["example"], "action": "explode"}})
    assert wrong({**content, "example": {**content["example"], "colour": "red"}})


def test_every_body_has_an_example_and_every_example_its_place() -> None:
    bodies = {name for name, one in OPERATIONS.items() if "requestBody" in one} - OWN
    assert bodies == {name for name, one in examples.every().items() if "request" in one}
    given = {f"{name} {code}" for name, one in examples.every().items() for code in one.get("answers", ())}
    assert given | {f"{name} request" for name in bodies} == set(CONTENTS)


def shape(value: Any) -> Any:
    """The names of its fields; of lists, of the first item."""
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    return dict.fromkeys(value) if isinstance(value, dict) else None


SENT = {
    **{name: (prepare, path) for name, (prepare, path, _) in ACTS.items()},
    "run_start": (lambda stack: "", "/api/flows/hello/trigger"),
    "operation_create": (begun, "/api/operations"),
}


@pytest.mark.parametrize("name", sorted(name for name in SENT if "request" in examples.every().get(name, {})))
def test_an_example_is_taken_and_answered_as_it_says(api: TestClient, stack: Client, name: str) -> None:
    prepare, path = SENT[name]
    given = examples.every()[name]
    answer = api.post(path.format(prepare(stack)), json=given["request"])
    assert answer.is_success, answer.text
    if "answers" in given:
        assert shape(answer.json()) == shape(given["answers"][str(answer.status_code)])


READ = {
    "run_show": "/api/runs/{run}",
    "run_ls": "/api/runs?limit=1",
    "run_explain": "/api/runs/{run}/explain",
    "flow_show": "/api/flows/hello",
    "queue_ls": "/api/queues",
    "schedule_show": "/api/schedules/regular/cron",
    "operation_show": "/api/operations/{operation}",
}


def test_what_is_read_looks_as_the_examples_say(api: TestClient, stack: Client) -> None:
    places = {"run": begun(stack), "operation": stack.operate("cancel", [ended(stack)], reason="x").id}
    for name, path in READ.items():
        answer = api.get(path.format(**places)).json()
        (example,) = examples.every()[name]["answers"].values()
        assert shape(answer) == shape(example), name
        if "items" in answer:
            assert shape(answer["items"][0]) == shape(example["items"][0]), name
    told = {name for name, one in examples.every().items() if "answers" in one}
    assert told <= set(READ) | set(SENT)


def test_secrets_have_no_examples_of_answers() -> None:
    for name in ("key_create", "key_rotate", "session_create"):
        assert "answers" not in examples.every()[name]
    assert "session_create" in PUBLIC
