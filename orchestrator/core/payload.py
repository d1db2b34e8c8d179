"""Outputs that are kept outside of the ledger: what the ledger has of one, and what names a store."""

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import UUID

THRESHOLD: Final = 256 * 1024
"""Bytes of JSON from which an output is kept outside."""
CAP: Final = 64 * 1024 * 1024
"""Bytes of JSON that an output may have, where there is a store."""
_OPTIONS: Final = frozenset({"endpoint", "region"})
_EXAMPLES: Final = "write file:///mnt/payloads, or s3://bucket/folder"


@dataclass(frozen=True, slots=True)
class Payload:
    """One of them: in which store, under which name, and how to know it again."""

    store: UUID
    reference: str
    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A folder that all hosts share (no `bucket`), or a place in a bucket."""

    text: str
    bucket: str
    path: str
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "StoreUrl":
        """
        Raises:
            ValueError: it names no store; with the fix.
        """
        text = text.strip()
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        path = unquote(parts.path)
        if parts.scheme == "file" and not parts.netloc and not options and PurePosixPath(path).is_absolute():
            return cls(text, "", path)
        if parts.scheme == "file":
            raise ValueError(f"a folder has an absolute path and no options. Fix: {_EXAMPLES}")
        if parts.scheme != "s3":
            raise ValueError(f"it is neither a folder nor a bucket. Fix: {_EXAMPLES}")
        if "@" in parts.netloc or not parts.netloc:
            raise ValueError(
                "a bucket's name follows s3://, and credentials come from where the AWS tools have them. "
                f"Fix: {_EXAMPLES}"
            )
        if unknown := options.keys() - _OPTIONS:
            raise ValueError(
                f"`{min(unknown)}` is not known. Fix: the options are {' and '.join(sorted(_OPTIONS))}, as in "
                "s3://bucket/folder?endpoint=https://minio:9000"
            )
        return cls(text, parts.netloc, path.strip("/"), options)


def reference(run_id: UUID, step_key: str, fence: int) -> str:
    """The name of what an attempt returned: no other attempt has it, and all of one run begin alike."""
    return f"{run_id}/{step_key}/{fence}.json"
