"""Asks this container whether it lives: `healthcheck.py [URL]`, by default its health address. Exit code 0: yes."""

import os
import sys
import urllib.error
import urllib.request


def main() -> int:
    port = os.environ.get("ORCHESTRATOR_HEALTH_ADDRESS", ":8081").rpartition(":")[2]
    url = sys.argv[1] if len(sys.argv) > 1 else f"http://127.0.0.1:{port}/health/liveness"
    try:
        with urllib.request.urlopen(url, timeout=4) as answer:
            return 0 if answer.status == 200 else 1
    except (urllib.error.URLError, OSError) as exc:
        print(f"{url}: {exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
