"""RedBeat's keys in Redis: a hash per entry, a sorted set of due times, and the lock.

Every write is done by a script that looks at the lock first: a beat that slept through its loss writes nothing.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import redis

from orchestrator.schedules.entry import Fire, LedgerEntry
from orchestrator.schedules.mirror import Changes, Found, Put

log = logging.getLogger("orchestrator.beat")
T = TypeVar("T")
_PAGE: Final = 500

# KEYS: lock. ARGV: token, milliseconds. Returns {1 taken, 2 kept, 0 another's; milliseconds that are left of it}.
_HOLD: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0, redis.call('PTTL', KEYS[1])} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {holder and 2 or 1, tonumber(ARGV[2])}
"""
# KEYS: lock. ARGV: token.
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
# KEYS: lock, set, entries. ARGV: token, then version, meta, score of each. What changed meanwhile is left alone.
_ADVANCE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local done = 0
for i = 3, #KEYS do
  local a = 2 + 3 * (i - 3)
  if redis.call('HGET', KEYS[i], 'version') == ARGV[a] then
    redis.call('HSET', KEYS[i], 'meta', ARGV[a + 1])
    redis.call('ZADD', KEYS[2], ARGV[a + 2], KEYS[i])
    done = done + 1
  end
end
return done
"""
# KEYS: lock, set, entries. ARGV: token, then definition, meta, version, score, expected score (or '') of each.
_PUT: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local done = 0
for i = 3, #KEYS do
  local a = 2 + 5 * (i - 3)
  local score = ARGV[a + 4] ~= '' and redis.call('ZSCORE', KEYS[2], KEYS[i])
  if not score or tonumber(score) == tonumber(ARGV[a + 4]) then
    redis.call('DEL', KEYS[i])
    redis.call('HSET', KEYS[i], 'definition', ARGV[a], 'meta', ARGV[a + 1], 'version', ARGV[a + 2])
    redis.call('ZADD', KEYS[2], ARGV[a + 3], KEYS[i])
    done = done + 1
  end
end
return done
"""
# KEYS: lock, set, entries. ARGV: token.
_DELETE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
for i = 3, #KEYS do
  redis.call('ZREM', KEYS[2], KEYS[i])
  redis.call('DEL', KEYS[i])
end
return #KEYS - 2
"""


def _pages(items: Iterable[T]) -> Iterator[list[T]]:
    """A page at a time: scripts stop the server while they run, and Lua limits the number of arguments."""
    listed = list(items)
    for start in range(0, len(listed), _PAGE):
        yield listed[start : start + _PAGE]


class LockLost(Exception):
    """Another beat holds the lock; nothing was written."""


@dataclass(frozen=True, slots=True)
class Hold:
    """`ours`: for as long as the lock lasts. `fresh`: it was not ours a moment ago. `left_s`: until it runs out."""

    ours: bool
    fresh: bool
    left_s: float


@dataclass(frozen=True, slots=True)
class Due:
    """An entry that is due, as it was read, and what it fires; None: nothing any more."""

    entry: LedgerEntry
    version: str
    fire: Fire | None


@dataclass(frozen=True, slots=True)
class Page:
    """Entries that are due, the score of the first that is not, and how many could not be read."""

    due: tuple[Due, ...]
    next_score: float | None
    full: bool
    broken: int


class Store:
    """One beat's view of Redis. Raises what the client raises."""

    def __init__(self, app: Any, client: "redis.Redis", token: str, lock_s: float) -> None:
        conf = app.redbeat_conf
        self._app = app
        self._client: Any = client
        self._token = token
        self._lock_ms = int(lock_s * 1000)
        self._prefix: str = conf.key_prefix
        self._lock = f"{conf.key_prefix}:lock"
        self._set: str = conf.schedule_key
        self._scripts = {
            name: self._client.register_script(text)
            for name, text in (
                ("hold", _HOLD),
                ("release", _RELEASE),
                ("advance", _ADVANCE),
                ("put", _PUT),
                ("delete", _DELETE),
            )
        }

    # ---- the lock ----

    def hold(self) -> Hold:
        """Take the lock if it is free, keep it if it is ours."""
        state, left_ms = self._scripts["hold"](keys=[self._lock], args=[self._token, self._lock_ms])
        return Hold(state > 0, state == 1, max(0.0, left_ms / 1000))

    def release(self) -> bool:
        """Let others take it now; whether it was ours."""
        return bool(self._scripts["release"](keys=[self._lock], args=[self._token]))

    # ---- the ticks ----

    def due(self, now_s: float) -> Page:
        """The first entries whose score is `now_s` or less. One that cannot be read is taken out of the set."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.zrangebyscore(self._set, 0, now_s, start=0, num=_PAGE)
            pipe.zrangebyscore(self._set, f"({now_s!r}", "+inf", start=0, num=1, withscores=True)
            keys, following = pipe.execute()
        found = list(self._read(keys)) if keys else []
        broken = [key for key, due in found if due is None]
        if broken:
            self._client.zrem(self._set, *broken)
        return Page(
            tuple(due for _, due in found if due is not None),
            following[0][1] if following else None,
            len(keys) == _PAGE,
            len(broken),
        )

    def _read(self, keys: Sequence[str]) -> Iterator[tuple[str, Due | None]]:
        with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, "definition", "meta", "version")
            answers = pipe.execute(raise_on_error=False)
        for key, answer in zip(keys, answers, strict=True):
            try:
                definition, meta, version = answer
                entry = LedgerEntry.read(self._app, definition, meta)
                int(version)  # without one it cannot be moved on, and would be due for ever
                read = Due(entry, version, entry.fire)
            except Exception:  # evicted, of another release, or not ours: none of that may stop the others
                read = None
            yield key, read

    def advance(self, due: Iterable[Due]) -> None:
        """Store when these fire next.

        Raises:
            LockLost: another beat has the lock.
        """
        for some in _pages(due):
            args = [part for one in some for part in (one.version, one.entry.meta, repr(one.entry.score))]
            self._write("advance", [one.entry.key for one in some], args)

    # ---- the mirror ----

    def count(self) -> int:
        """How many entries there are."""
        return int(self._client.zcard(self._set))

    def found(self, names: Iterable[str] | None = None) -> dict[str, Found]:
        """The entries by name: all, or those of these names that there are."""
        if names is None:
            names = [key.removeprefix(self._prefix) for key in self._client.zrange(self._set, 0, -1)]
        return {name: found for some in _pages(names) for name, found in self._look_up(some)}

    def _look_up(self, names: Sequence[str]) -> Iterator[tuple[str, Found]]:
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zscore(self._set, f"{self._prefix}{name}")
                pipe.hmget(f"{self._prefix}{name}", "version", "definition", "meta")
            answers = pipe.execute(raise_on_error=False)
        for name, score, fields in zip(names, answers[::2], answers[1::2], strict=True):
            whole = isinstance(fields, list) and all(fields)
            if isinstance(score, float):
                yield name, Found(int(fields[0]) if whole else None, score)

    def apply(self, changes: Changes) -> None:
        """Write what is new, remove what is gone.

        Raises:
            LockLost: another beat has the lock.
        """
        for some in _pages(changes.puts):
            written = [one for put in some if (one := self._fields(put)) is not None]
            self._write("put", [key for key, _ in written], [part for _, parts in written for part in parts])
        for names in _pages(changes.deletes):
            self._write("delete", [f"{self._prefix}{name}" for name in names], [])

    def _fields(self, put: Put) -> tuple[str, list[str]] | None:
        row = put.row
        assert row.next_tick_at is not None
        assert row.due_at is not None
        try:
            timing = row.timing()
        except Exception as exc:  # a zone that this host does not know: the others go on
            log.error("beat.unreadable", extra={"schedule": row.name, "error": f"{type(exc).__name__}: {exc}"})
            return None
        entry = LedgerEntry.of(self._app, row.flow, row.trigger_key, timing, row.next_tick_at)
        expected = "" if put.expected is None else repr(put.expected)
        return entry.key, [entry.definition, entry.meta, str(row.version), repr(row.due_at.timestamp()), expected]

    def _write(self, script: str, keys: list[str], args: list[str]) -> None:
        if self._scripts[script](keys=[self._lock, self._set, *keys], args=[self._token, *args]) == -1:
            raise LockLost
