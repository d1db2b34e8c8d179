"""The faults of a soak. Each is done when its block begins, and healed when it ends."""

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, cast

import redis

from tests.soak.field import Field
from tests.soak.posts import BeatPost, DoorPost, Post
from tests.support import nemesis
from tests.support.beat_process import ForkedBeat
from tests.support.eventually import eventually
from tests.support.nursery import Forked, alive, stopped

ANYWHERE: Final[frozenset[int]] = frozenset()
NOBODY: Final = frozenset({-1})
SHUTDOWN_S: Final = 20.0


@dataclass(frozen=True)
class Struck:
    """Where a fault is, and whom it struck."""

    target: str
    pids: frozenset[int] = ANYWHERE
    detail: str = ""


Strike = Callable[[Field, Post, random.Random], AbstractContextManager[Struck]]


def _children(post: Post) -> list[int]:
    """The pool children; for a pool of threads there are none."""
    assert post.worker is not None
    return sorted(pid for pid in post.look() if pid != post.worker.pid) if post.pool == "prefork" else []


@contextmanager
def kill(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """SIGKILL to a whole worker; another is started."""
    assert post.worker is not None
    pids = post.look()
    post.worker.kill()
    yield Struck(post.name, pids)
    field.keep_up()


@contextmanager
def kill_main(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """SIGKILL to the main process alone; its children must not live on for long."""
    assert post.worker is not None
    pids = post.look()
    os.kill(post.worker.pid, signal.SIGKILL)
    eventually(lambda: not any(map(alive, pids)), timeout=30, message="the children end with their parent")
    yield Struck(post.name, pids)
    field.keep_up()


@contextmanager
def kill_child(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """SIGKILL to one pool child; the worker starts another."""
    pids = frozenset(rng.sample(_children(post), k=min(1, len(_children(post)))))
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield Struck(post.name, pids or frozenset({-1}))


@contextmanager
def pause(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """SIGSTOP to a whole worker, past its leases."""
    pids = post.look()
    _send(pids, signal.SIGSTOP)
    yield Struck(post.name, pids)
    _send(pids, signal.SIGCONT)


@contextmanager
def pause_child(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """SIGSTOP to one pool child."""
    pids = frozenset(rng.sample(_children(post), k=min(1, len(_children(post)))))
    _send(pids, signal.SIGSTOP)
    yield Struck(post.name, pids or frozenset({-1}))
    _send(pids, signal.SIGCONT)


@contextmanager
def pause_main(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """SIGSTOP to the main process: nothing is handed out, and no keeper works; the children go on."""
    assert post.worker is not None
    pids = frozenset({post.worker.pid})
    _send(pids, signal.SIGSTOP)
    yield Struck(post.name, pids)
    _send(pids, signal.SIGCONT)


def _send(pids: frozenset[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def deploy(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """SIGTERM, and another worker beside the one that finishes its steps."""
    old = post.worker
    assert old is not None
    pids = post.look()
    old.term()
    field.start(post)
    yield Struck(post.name, pids)
    with contextlib.suppress(AssertionError):
        old.wait(SHUTDOWN_S)
    old.kill()


@contextmanager
def deploy_late(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """The ledger's replies are on their way for longer than a lease, and then it is told to stop: what the worker hears
    that it was given is somebody else's by now."""
    old = post.worker
    assert old is not None
    pids = post.look()
    post.postgres.hold()
    yield Struck(post.name, pids)
    _stop_at_last(old)
    post.postgres.free()
    _replace(field, post, old)


@contextmanager
def deploy_asleep(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """A pool child sleeps past its lease right after a claim; when it wakes up, its worker was told to stop."""
    old = post.worker
    assert old is not None
    pids, children = post.look(), _children(post)
    for pid in children:
        nemesis.order(field.orders, "claim.committed", "stop", pid=pid)
    yield Struck(post.name, pids)
    nemesis.clear(field.orders)
    _stop_at_last(old)
    _send(frozenset(children), signal.SIGCONT)
    _replace(field, post, old)


def _stop_at_last(worker: Forked) -> None:
    """Until it has heard."""
    worker.term()
    with contextlib.suppress(AssertionError):
        eventually(lambda: "Warm shutdown" in worker.log(), timeout=5)


def _replace(field: Field, post: Post, old: Forked) -> None:
    """Another beside the one that finishes its steps."""
    field.start(post)
    with contextlib.suppress(AssertionError):
        old.wait(SHUTDOWN_S)
    old.kill()


@contextmanager
def deploy_kill(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """SIGTERM, and SIGKILL before the steps under way have ended, as a deploy does whose patience is short."""
    old = post.worker
    assert old is not None
    pids = post.look()
    old.term()
    yield Struck(post.name, pids)
    old.kill()
    field.keep_up()


@contextmanager
def drop(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """Some messages are lost, from the queues and from what is not acknowledged."""
    lost = 0
    with _client(field) as client:
        for name in _lists(client):
            count = rng.randint(1, max(1, int(cast(int, client.llen(name)))))
            lost += len(cast(list[bytes], client.lpop(name, count)) or [])
        with contextlib.suppress(redis.ConnectionError):
            lost += int(cast(int, client.hlen("soak:unacked")))
            client.delete("soak:unacked")
    yield Struck("queues", detail=f"{lost} messages")


@contextmanager
def duplicate(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """Some messages are there twice."""
    added = 0
    with _client(field) as client:
        for name in _lists(client):
            found = cast(list[bytes], client.lrange(name, 0, -1))
            copies = rng.sample(found, k=rng.randint(0, len(found)))
            if copies:
                client.lpush(name, *copies)
            added += len(copies)
    yield Struck("queues", detail=f"{added} messages")


@contextmanager
def flush(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """Valkey loses everything."""
    with _client(field) as client, contextlib.suppress(redis.ConnectionError):
        client.flushall()
    yield Struck("valkey")


def _client(field: Field) -> "redis.Redis":
    return redis.Redis.from_url(field.broker.url)


def _lists(client: "redis.Redis") -> list[bytes]:
    """The queues' lists; none while Valkey is away."""
    try:
        names = sorted(cast(list[bytes], client.keys("soak:*")))
    except redis.ConnectionError:
        return []
    return [name for name in names if client.type(name) == b"list"]


@contextmanager
def broker_restart(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """Valkey is killed, and comes back empty."""
    assert field.broker.embedded is not None
    field.broker.embedded.kill()
    yield Struck("valkey")
    field.broker.embedded.start()


@contextmanager
def postgres_restart(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """PostgreSQL stops in immediate mode, as in a crash, and recovers."""
    assert field.server.embedded is not None
    field.server.embedded.stop(immediate=True)
    yield Struck("postgres")
    field.server.embedded.start()


def _link(link: str, trouble: str) -> Strike:
    @contextmanager
    def strike(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
        wire = {"database": post.postgres, "broker": post.valkey, "client": field.client_wire}[link]
        if trouble == "slow":
            wire.slow(rng.uniform(0.02, 0.3))
        elif trouble == "stall":
            wire.stall()
        elif trouble == "reset":
            wire.reset()
        else:
            wire.cut(rng.choice((b"COMMIT", b"")), lose="reply")
        struck = frozenset({-1}) if link == "client" else post.look()
        yield Struck("client" if link == "client" else post.name, struck)
        wire.free()

    return strike


# ---- beats ----


def _living(field: Field) -> list[BeatPost]:
    """Beats that run, the one that holds the lock first."""
    running = [post for post in field.beats if post.beat is not None and post.alive and not stopped(post.beat.pid)]
    return sorted(running, key=lambda post: not post.leads)


def _beats(field: Field, count: int) -> list[ForkedBeat]:
    return [post.beat for post in _living(field)[:count] if post.beat is not None]


def _kill_beats(count: int) -> Strike:
    @contextmanager
    def strike(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
        struck = _beats(field, count)
        for beat in struck:
            beat.kill()
        yield Struck("beats", frozenset(beat.pid for beat in struck) or NOBODY, f"{len(struck)} of them")
        field.keep_up()

    return strike


@contextmanager
def pause_beat(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """SIGSTOP to the holder of the lock, for longer than that lasts; it wakes up as one that another has replaced."""
    pids = frozenset(beat.pid for beat in _beats(field, 1))
    _send(pids, signal.SIGSTOP)
    yield Struck("beats", pids or NOBODY)
    _send(pids, signal.SIGCONT)


def _stall_beat(link: str) -> Strike:
    @contextmanager
    def strike(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
        struck = _living(field)[:1]
        for one in struck:
            (one.valkey if link == "broker" else one.postgres).stall()
        yield Struck("beats", frozenset(one.beat.pid for one in struck if one.beat is not None) or NOBODY)
        for one in struck:
            (one.valkey if link == "broker" else one.postgres).free()

    return strike


# ---- processes of the API ----


def _doors(field: Field, rng: random.Random, count: int) -> list[DoorPost]:
    """Some that run."""
    running = [door for door in field.doors if door.api is not None and door.alive and not stopped(door.api.pid)]
    return rng.sample(running, k=min(count, len(running)))


def _pids(struck: Sequence[DoorPost]) -> frozenset[int]:
    return frozenset(door.api.pid for door in struck if door.api is not None) or NOBODY


def _kill_doors(count: int) -> Strike:
    @contextmanager
    def strike(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
        """SIGKILL; another is started at the same port."""
        struck = _doors(field, rng, count)
        for door in struck:
            assert door.api is not None
            door.api.kill()
        yield Struck("doors", _pids(struck), f"{len(struck)} of them")
        field.keep_up()

    return strike


@contextmanager
def pause_door(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """SIGSTOP, with whatever it was at."""
    pids = _pids(_doors(field, rng, 1))
    _send(pids, signal.SIGSTOP)
    yield Struck("doors", pids)
    _send(pids, signal.SIGCONT)


@contextmanager
def deploy_door(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
    """SIGTERM; the next one is there when it has ended what was open."""
    struck = _doors(field, rng, 1)
    for door in struck:
        assert door.api is not None
        door.api.term()
    yield Struck("doors", _pids(struck))
    for door in struck:
        assert door.api is not None
        with contextlib.suppress(AssertionError):
            door.api.wait(SHUTDOWN_S)
        door.api.kill()
    field.keep_up()


def _door_link(trouble: str) -> Strike:
    @contextmanager
    def strike(field: Field, post: Post, rng: random.Random) -> Iterator[Struck]:
        """Of its link to the database: nothing arrives, or what was done is not told."""
        struck = _doors(field, rng, 1)
        for door in struck:
            if trouble == "stall":
                door.postgres.stall()
            else:
                door.postgres.cut(rng.choice((b"COMMIT", b"")), lose="reply")
        yield Struck("doors", _pids(struck))
        for door in struck:
            door.postgres.free()

    return strike


@dataclass(frozen=True)
class Kind:
    """A kind of fault: how it is done, for how many seconds, and how often beside the others."""

    name: str
    strike: Strike
    seconds: tuple[float, float]
    weight: int = 2
    of_worker: bool = True
    """Whether it needs a worker that no other fault has at the moment."""


INSTANT: Final = (0.0, 0.0)
LINKS: Final = ("broker", "database")
DEPLOY: Final = Kind("deploy", deploy, (0.5, 2.0), 3)
KINDS: Final[tuple[Kind, ...]] = (
    Kind("kill", kill, (0.0, 2.0), 4),
    Kind("kill-main", kill_main, (0.0, 2.0)),
    Kind("kill-child", kill_child, INSTANT, 4),
    Kind("pause", pause, (4.5, 8.0), 4),
    Kind("pause-child", pause_child, (1.0, 8.0), 3),
    Kind("pause-main", pause_main, (1.0, 6.0), 1),
    DEPLOY,
    Kind("deploy-kill", deploy_kill, (0.1, 2.0), 2),
    Kind("deploy-late", deploy_late, (6.0, 8.0), 1),
    Kind("deploy-asleep", deploy_asleep, (6.5, 8.0), 1),
    Kind("messages-drop", drop, INSTANT, 3, of_worker=False),
    Kind("messages-duplicate", duplicate, INSTANT, 3, of_worker=False),
    Kind("broker-flush", flush, INSTANT, 3, of_worker=False),
    Kind("broker-restart", broker_restart, (0.3, 4.0), of_worker=False),
    Kind("postgres-restart", postgres_restart, (0.3, 3.0), of_worker=False),
    *(Kind(f"link-database-{what}", _link("database", what), (1.0, 7.0)) for what in ("slow", "stall", "reset")),
    Kind("link-database-swallow", _link("database", "swallow"), (1.0, 3.0), 5),
    *(
        Kind(f"link-broker-{what}", _link("broker", what), (1.0, 7.0), 1)
        for what in ("slow", "stall", "reset", "swallow")
    ),
    Kind("beat-kill", _kill_beats(1), (0.0, 3.0), 4, of_worker=False),
    Kind("beat-kill-all", _kill_beats(9), (1.0, 5.0), 2, of_worker=False),
    Kind("beat-pause", pause_beat, (2.5, 6.0), 4, of_worker=False),
    *(Kind(f"beat-link-{link}-stall", _stall_beat(link), (2.5, 6.0), 1, of_worker=False) for link in LINKS),
    Kind("link-client-swallow", _link("client", "swallow"), (0.5, 2.0), of_worker=False),
    Kind("api-kill", _kill_doors(1), (0.0, 2.0), 4, of_worker=False),
    Kind("api-kill-all", _kill_doors(9), (0.5, 3.0), 2, of_worker=False),
    Kind("api-pause", pause_door, (1.0, 6.0), 2, of_worker=False),
    Kind("api-deploy", deploy_door, (0.5, 2.0), 2, of_worker=False),
    Kind("api-link-stall", _door_link("stall"), (1.0, 6.0), 1, of_worker=False),
    Kind("api-link-swallow", _door_link("swallow"), (1.0, 3.0), 4, of_worker=False),
)


def choose(rng: random.Random, kinds: Sequence[Kind], count: int) -> list[Kind]:
    """So many of them, by weight."""
    return rng.choices(kinds, weights=[kind.weight for kind in kinds], k=count)


def free_post(field: Field, rng: random.Random, taken: set[str]) -> Post | None:
    """A worker that lives and is not struck at the moment."""
    free = [post for post in field.posts if post.name not in taken and post.worker is not None and post.worker.alive]
    return rng.choice(free) if free else None
