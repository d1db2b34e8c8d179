"""`python -m orchestrator.http.document FOLDER`: the OpenAPI document and the page made from it, without a server."""

import json
import sys
from pathlib import Path
from typing import Any

from orchestrator.http import reference
from orchestrator.http.app import create_app
from orchestrator.settings import Settings


def files() -> dict[str, str]:
    """Their texts, by name."""
    settings = Settings.from_env({"ORCHESTRATOR_DATABASE_URL": "postgresql://localhost/nowhere"})
    document: dict[str, Any] = create_app(settings).openapi()
    return {
        "openapi.json": json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n",
        "api-reference.md": reference.page(document),
    }


def main() -> None:
    for name, text in files().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
