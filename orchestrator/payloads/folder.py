"""A payload store in a folder that every host mounts, such as by NFS."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from orchestrator.core.payload import StoreUrl
from orchestrator.errors import PayloadUnavailable


class Folder:
    """See `Store`."""

    def __init__(self, url: StoreUrl) -> None:
        self._root = Path(url.path)

    def write(self, name: str, data: bytes) -> None:
        """Under another name first, and on the disk before it has its own."""
        with self._asked("written"):
            if not self._root.is_dir():  # made here, it would be a folder under a mount that is missing
                raise FileNotFoundError(f"{self._root} is not a folder")
            place = self._root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            partial = place.with_name(f".{uuid4().hex}.partial")
            try:
                with partial.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(place)
            except BaseException:
                with suppress(OSError):
                    partial.unlink()
                raise
            self._sync(place.parent)

    def _sync(self, folder: Path) -> None:
        """The folder's entry, and those of the folders above it that may be new."""
        while True:
            entries = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(entries)
            finally:
                os.close(entries)
            if folder == self._root:
                return
            folder = folder.parent

    def read(self, name: str) -> bytes | None:
        with self._asked("read"):
            if not self._root.is_dir():
                raise FileNotFoundError(f"{self._root} is not a folder")
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                return None

    def remove(self, folder: str) -> None:
        with self._asked("removed"), suppress(FileNotFoundError):
            shutil.rmtree(self._root / folder)

    def after_fork(self) -> None:
        """Nothing is open."""

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise PayloadUnavailable(
                f"Nothing can be {what} in the payload store {self._root}: {exc.strerror or exc}. Fix: see to it that "
                "the folder is mounted on this host, and that this user may write there."
            ) from exc
