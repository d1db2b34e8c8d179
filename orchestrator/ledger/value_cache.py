"""Large values that many steps of this process need, read once."""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from pydantic import JsonValue

CACHE_LIMIT: Final = 32_000_000
"""Characters of JSON that are kept; as Python objects they may take several times as many bytes."""


class ValueCache:
    """The values used last, up to a limit. A longer one is not kept. Callers may not change what they are given."""

    def __init__(self, limit: int = CACHE_LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._reading: dict[Hashable, threading.Lock] = {}
        self._held: OrderedDict[Hashable, tuple[int, JsonValue]] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable, read: Callable[[], JsonValue]) -> JsonValue:
        """The value of `key`; whoever asks while another thread reads it waits for that."""
        with self._lock:
            if key in self._held:
                return self._used(key)
            reading = self._reading.setdefault(key, threading.Lock())
        with reading:
            with self._lock:
                if key in self._held:
                    return self._used(key)
            try:
                value = read()
            finally:
                with self._lock:
                    self._reading.pop(key, None)
            self._keep(key, value)
            return value

    def _used(self, key: Hashable) -> JsonValue:
        self._held.move_to_end(key)
        return self._held[key][1]

    def _keep(self, key: Hashable, value: JsonValue) -> None:
        size = len(json.dumps(value))
        if size > self._limit:
            return
        with self._lock:
            before, _ = self._held.pop(key, (0, None))
            self._held[key] = size, value
            self._size += size - before
            while self._size > self._limit:
                _, (freed, _) = self._held.popitem(last=False)
                self._size -= freed
