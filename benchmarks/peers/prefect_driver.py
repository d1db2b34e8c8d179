"""Prefect: its server on PostgreSQL, flows in the process that calls them."""

import os
from pathlib import Path

from benchmarks.peers.lines import Driver, Processes, answers_http, beside_python, free_port, serve


def _serve_api() -> Processes:
    """A running server, and the settings of the flows that report to it in this process's environment."""
    port = free_port()
    os.environ |= {
        "PREFECT_HOME": str(Path(os.environ["PEER_FOLDER"]) / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_API_DATABASE_CONNECTION_URL": os.environ["PEER_DATABASE_URL"].replace("://", "+asyncpg://", 1),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    server = Processes()
    server.start([beside_python("prefect"), "server", "start", "--host=127.0.0.1", f"--port={port}"])
    server.wait_for(lambda: answers_http(f"http://127.0.0.1:{port}/api/health"), "the server")
    return server


def _make() -> Driver:
    server = _serve_api()
    from benchmarks.peers.prefect_flows import Flows  # Prefect reads its settings when it is imported

    return Flows(server)


if __name__ == "__main__":
    serve(_make)
