"""The OpenAPI document in the repository is the one that is served."""

import json
from pathlib import Path

from starlette.testclient import TestClient

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_document_in_the_repository_is_the_one_that_is_served(api: TestClient) -> None:
    served = api.get("/api/openapi.json").json()
    kept = json.loads(DOCUMENT.read_text("utf-8"))
    assert served == kept, "write it anew: python -m orchestrator.http.document > docs/openapi.json"
