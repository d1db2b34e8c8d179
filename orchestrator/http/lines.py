"""Answers that are made while they are sent: a JSON object per line."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from fastapi.responses import StreamingResponse

_CHUNK: Final = 64 * 1024


class Lines(StreamingResponse):
    """`application/x-ndjson`. The first line is made before anything is sent, so that what is refused is a problem as
    everywhere; whoever reads what breaks off later sees that the answer is not whole."""

    media_type = "application/x-ndjson"

    def __init__(self, records: Iterator[dict[str, Any]], status_code: int = 200) -> None:
        first = next(records, None)
        super().__init__(_chunks(iter(()) if first is None else chain([first], records)), status_code)


def _chunks(records: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Some lines at a time: each piece takes a trip to a thread."""
    held: list[str] = []
    size = 0
    for record in records:
        held.append(json.dumps(record, ensure_ascii=False) + "\n")
        size += len(held[-1])
        if size >= _CHUNK:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)
