"""The document in the repository is the one that is served, and the page for people is made from it."""

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from orchestrator.http import document

DOCS = Path(__file__).parents[2] / "docs"


def test_the_document_in_the_repository_is_the_one_that_is_served(api: TestClient) -> None:
    served = api.get("/api/openapi.json").json()
    kept = json.loads((DOCS / "openapi.json").read_text("utf-8"))
    assert served == kept, "write it anew: python -m orchestrator.http.document docs"


@pytest.mark.parametrize("name", ["openapi.json", "api-reference.md"])
def test_what_is_made_from_the_code_is_made_anew(name: str) -> None:
    made = document.files()[name]
    assert (DOCS / name).read_text("utf-8") == made, "write it anew: python -m orchestrator.http.document docs"


def test_the_page_has_every_route_with_who_may_ask() -> None:
    text = document.files()["api-reference.md"]
    for path in json.loads((DOCS / "openapi.json").read_text("utf-8"))["paths"].values():
        for route in path.values():
            assert f"\n### {route['operationId']}\n" in text
    assert "### run_cancel\n\n`POST /api/runs/{run_id}/cancel`: operator, scope `runs`." in text
    assert "### run_start\n\n`POST /api/flows/{flow}/trigger`: operator, scope `trigger`." in text
