"""`python -m orchestrator.http.document`: the OpenAPI document, without a server."""

import json
import sys

from orchestrator.http.app import create_app
from orchestrator.settings import Settings


def main() -> None:
    settings = Settings.from_env({"ORCHESTRATOR_DATABASE_URL": "postgresql://localhost/nowhere"})
    json.dump(create_app(settings).openapi(), sys.stdout, indent=1, ensure_ascii=False, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
