"""An API that listens, in the test process: one for many tests, each with a database of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from orchestrator.client import Client
from orchestrator.http.app import create_app
from orchestrator.settings import Settings
from tests.support.eventually import eventually


class Listening:
    """Made at first use, because it costs more than most tests."""

    def __init__(self) -> None:
        self._app: FastAPI | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def serving(self, client: Client) -> Iterator[str]:
        """The URL of an API that answers from the ledger of this client, to everybody on this machine."""
        opened = client.settings.model_copy(update={"auth": "open"})
        if self._app is None:
            self._app = self._start(opened)
        before = self._app.state.client
        self._app.state.client, self._app.state.settings = client, opened
        try:
            assert self._server is not None
            yield f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            self._app.state.client = before

    def _start(self, settings: Settings) -> FastAPI:
        app = create_app(settings)
        self._server = server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
        self._thread = threading.Thread(target=server.run)
        self._thread.start()
        eventually(lambda: server.started, message="the API listens")
        return app

    def close(self) -> None:
        """Serve no more."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(30)
