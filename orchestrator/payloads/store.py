"""What a payload store can do. Names are paths with `/`."""

from typing import Protocol

from orchestrator.core.payload import StoreUrl


class Store(Protocol):
    """Each call raises `PayloadUnavailable` when the store cannot be reached, or refuses. Safe to share between
    threads."""

    def write(self, name: str, data: bytes) -> None:
        """Whole and lasting, or not at all, when this returns. A name that is there is replaced."""

    def read(self, name: str) -> bytes | None:
        """None: there is nothing of this name."""

    def remove(self, folder: str) -> None:
        """Everything whose name begins with `folder/`; nothing is fine."""

    def after_fork(self) -> None:
        """Connections are the parent's."""


def opened(url: StoreUrl) -> Store:
    """The store of that URL; nothing is asked yet.

    Raises:
        PayloadUnavailable: the library that it needs is not installed.
    """
    if url.bucket:
        from orchestrator.payloads.bucket import Bucket

        return Bucket(url)
    from orchestrator.payloads.folder import Folder

    return Folder(url)
