"""An API that listens, in a thread of the test."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from orchestrator.client import Client
from orchestrator.http.app import create_app
from orchestrator.http.connections import Connection
from orchestrator.settings import Settings
from tests.support.eventually import eventually


@contextmanager
def listening(settings: Settings) -> Iterator[str]:
    """Its URL."""
    with serving(create_app(settings)) as url:
        yield url


@contextmanager
def serving(app: FastAPI, **options: Any) -> Iterator[str]:
    """The URL of this one; it reads requests as `orchestrator api` does."""
    how = {"http": Connection, "lifespan": "on", "log_config": None, **options}
    server = uvicorn.Server(uvicorn.Config(app, port=0, **how))
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started, message="the API listens")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


class Listening:
    """One API for many tests, each with a database of its own: to make one costs more than most tests."""

    def __init__(self) -> None:
        self._app: FastAPI | None = None
        self._open = ExitStack()
        self._url = ""

    @contextmanager
    def serving(self, client: Client) -> Iterator[str]:
        """The URL of an API that answers from the ledger of this client, to everybody on this machine."""
        opened = client.settings.model_copy(update={"auth": "open"})
        if self._app is None:
            self._app = create_app(opened)
            self._url = self._open.enter_context(serving(self._app))
        before, self._app.state.client, self._app.state.settings = self._app.state.client, client, opened
        try:
            yield self._url
        finally:
            self._app.state.client = before

    def close(self) -> None:
        """Serve no more."""
        self._open.close()
