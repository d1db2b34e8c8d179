"""The field of a soak: servers, links, workers that are started again when they die, and the record of it all."""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
from pydantic import SecretStr

from orchestrator.ledger import migrate, roles
from orchestrator.settings import Settings
from tests.edge import doors, figures, told
from tests.edge.crowd import Crowd
from tests.edge.doors import Api
from tests.edge.flows import MUTANT, SECRETS
from tests.proof import recorder
from tests.proof.history import SECOND, Fault, History, Limits
from tests.proof.verdict import Violation
from tests.soak import flows, payloads, strangers
from tests.soak.load import Load
from tests.soak.operators import Operators
from tests.soak.people import People
from tests.soak.plans import Plan, plans, timed
from tests.soak.posts import BeatPost, DoorPost, Post
from tests.soak.pulse import Pulse
from tests.soak.releases import RELEASES, VARIABLE, Release
from tests.soak.wire import Wire
from tests.support import bouncer, databases, nemesis, servers
from tests.support.beat_process import ForkedBeat
from tests.support.nursery import Forked, Nursery, nursery
from tests.support.servers import Broker, Server

_FLOWS: Final = str(Path(flows.__file__))
LEASE: Final = timedelta(seconds=4)
BEAT_LOCK: Final = timedelta(seconds=2)
UNLIMITED: Final = {f"rate_{kind}": 0 for kind in ("reads", "writes", "triggers", "strangers")}
"""Clients of a soak may ask as often as they like."""
_RAISED: Final = re.compile(r"^([a-z_]\w*(?:\.\w+)*\.\w+|[A-Z]\w*(?:Error|Exception|Lost))(?::|$)")
"""The last line of a traceback."""
_OPEN: Final = f"SELECT count(*) FROM flow_runs WHERE ended_at IS NULL AND flow <> '{strangers.FLOW}'"


@dataclass
class Field:
    """Everything that is there while a soak runs."""

    seed: int
    folder: Path
    server: Server
    broker: Broker
    url: str
    settings: Settings
    nursery: Nursery
    stack: ExitStack
    env: dict[str, str]
    strangers: frozenset[str]
    """Runs that must not be touched."""
    pooler_url: str | None = None
    """Of a PgBouncer, where this machine has one."""
    pooler: str = "session"
    """Its mode: in session mode every second worker comes through it, in transaction mode all that the product has."""
    releases: Sequence[Release] = RELEASES[:1]
    """Those that workers may be of in the end."""
    posts: list[Post] = field(default_factory=list)
    posted: dict[int, Release] = field(default_factory=dict)
    """By the process id of a worker's main process, all that ever were."""
    beats: list[BeatPost] = field(default_factory=list)
    doors: list[DoorPost] = field(default_factory=list)
    crowd: Crowd | None = None
    operators: Operators | None = None
    loads: list[Load] = field(default_factory=list)
    people: People | None = None
    faults: list[Fault] = field(default_factory=list)
    quiet: list[tuple[int, int]] = field(default_factory=list)
    offset: recorder.Offset = field(default_factory=recorder.Offset.now)

    def __post_init__(self) -> None:
        self.pulse = Pulse(self.folder)
        self.pulse.start()
        self.stack.callback(self.pulse.stop)
        self.client_wire = Wire(self.url)
        self.stack.callback(self.client_wire.close)
        self._rollout = random.Random(f"rollout {self.seed}")
        self.shipped = 0
        """The number of the newest release that was started."""

    # ---- workers ----

    @property
    def orders(self) -> Path:
        """Where workers look for what befalls them."""
        return Path(self.env[nemesis.VARIABLE])

    def add_post(self, pool: str, concurrency: int) -> Post:
        """A worker with its own links to both servers."""
        links = self._links(pooled=len(self.posts) % 2 == 1)
        post = Post(f"w{len(self.posts)}", pool, concurrency, *links, leads=len(self.posts) == 1)
        self.posts.append(post)
        self.start(post)
        return post

    def _links(self, *, pooled: bool = False) -> tuple[Wire, Wire, Settings]:
        """To both servers, and the settings that lead over them."""
        through = self.pooler_url if pooled or self.pooler == "transaction" else None
        postgres, valkey = Wire(through or self.url), Wire(self.broker.url)
        self.stack.callback(postgres.close)
        self.stack.callback(valkey.close)
        urls = {"database_url": SecretStr(_driver(postgres.url)), "broker_url": SecretStr(valkey.url)}
        way = {"database_pooler": self.pooler if through else "none"}
        return postgres, valkey, self.settings.model_copy(update={**urls, **way})

    def start(self, post: Post) -> None:
        """A new worker at this post; it need not be ready yet."""
        name, release = f"{post.name}.{len(post.logs)}", self._release(post)
        made = Forked(
            self.nursery,
            post.settings,
            _FLOWS,
            self.folder,
            pool=post.pool,
            concurrency=post.concurrency,
            name=name,
            env={**self.env, VARIABLE: release},
        )
        self.stack.callback(made.kill)
        post.worker = made.start(ready=False)
        self.posted[made.pid] = release
        post.logs.append(made.log_file)

    def _release(self, post: Post) -> Release:
        """Of the next worker at this post."""
        if post.leads and post.worker is not None:
            self.shipped = min(self.shipped + 1, len(self.releases) - 1)
        return self.releases[self.shipped if post.leads else self._rollout.randint(0, self.shipped)]

    def keep_up(self) -> None:
        """Start a worker, or a beat, wherever one has died."""
        for post in self.posts:
            if post.worker is not None and not post.worker.alive:
                self.start(post)
        for beat in self.beats:
            if not beat.alive:
                self.start_beat(beat)
        for door in self.doors:
            if not door.alive:
                self.start_door(door)

    # ---- beats and operators ----

    def add_beat(self) -> BeatPost:
        """A beat with its own links."""
        post = BeatPost(f"b{len(self.beats)}", *self._links())
        self.beats.append(post)
        self.start_beat(post)
        return post

    def start_beat(self, post: BeatPost) -> None:
        """A new beat at this post, without anybody who would start it again."""
        made = ForkedBeat(self.nursery, post.settings, self.folder, name=f"{post.name}.{post.starts}")
        self.stack.callback(made.kill)
        made.start(ready=False)
        post.beat, post.starts = made, post.starts + 1

    # ---- the edge ----

    def add_door(self) -> DoorPost:
        """A process of the API with its own links."""
        links = self._links()
        post = DoorPost(f"a{len(self.doors)}", doors.free_port(self._rollout), *links)
        self.doors.append(post)
        self.start_door(post)
        return post

    def start_door(self, post: DoorPost) -> None:
        """A new process at this post; it need not be ready yet."""
        name = f"{post.name}.{post.starts}"
        env = {**SECRETS, VARIABLE: self.releases[-1]}
        made = Api(
            self.nursery,
            post.settings.model_copy(update=UNLIMITED),
            self.folder,
            post.port,
            name=name,
            env=env,
            mutant=self.env.get(MUTANT),
        )
        self.stack.callback(made.kill)
        made.start(ready=False)
        post.api, post.starts = made, post.starts + 1

    def open_crowd(self, starters: int, publishers: int, pause_s: float, flows: Sequence[str]) -> None:
        """Clients of the API, until the load is closed; they start these flows."""
        chosen = [plan for plan in plans(self.seed) if plan.name in flows]
        urls = [doors.url_of(post.port) for post in self.doors]
        self.crowd = Crowd(self.url, urls, self.folder, f"{self.seed}")
        self.crowd.open(starters, publishers, pause_s, {plan.name: plan.body for plan in chosen})

    def open_operators(self) -> None:
        """People who pause, edit, disable and trigger schedules until the load is closed."""
        self.operators = Operators(self.settings, timed(int(self.env["SOAK_STEADY"])), f"{self.seed}", self.faults)
        self.operators.start()

    # ---- clients ----

    def open_load(self, wanted: int, flows: Sequence[str] = ()) -> None:
        """Clients that start, cancel and retry until the load is closed; `flows`: only these."""
        chosen = [plan for plan in plans(self.seed) if not flows or plan.name in flows]
        pinned = len(self.releases) > 1 and len(self.loads) % 2 == 1
        load = Load(self._at_clients, chosen, f"{self.seed}.{len(self.loads)}", wanted, pinned=pinned)
        self.loads.append(load)
        load.start()

    def open_people(self) -> None:
        """Those whom runs wait for, until the field closes."""
        self.people = People(self._at_clients, self.url, plans(self.seed), f"{self.seed}")
        self.stack.callback(self.people.stop)
        self.people.start()

    @property
    def _at_clients(self) -> Settings:
        return self.settings.model_copy(update={"database_url": SecretStr(_driver(self.client_wire.url))})

    def close_load(self) -> None:
        """Clients and operators go home, and people only answer; the last thing operators do is to stop every
        schedule."""
        if self.people is not None:
            self.people.calm()
        if self.crowd is not None:
            self.crowd.call_off()
        for load in self.loads:
            load.stop()
        if self.crowd is not None:
            self.crowd.stop()
        if self.operators is not None:
            self.operators.stop()

    # ---- the end ----

    def drain(self, limit_s: float) -> float:
        """Wait until every run has ended, for `limit_s` at most; how long it took."""
        began = time.monotonic()
        while time.monotonic() - began < limit_s:
            self.keep_up()
            if self.open_runs() == 0:
                break
            time.sleep(0.2)
        return time.monotonic() - began

    def open_runs(self) -> int:
        """-1 while the database is away."""
        try:
            with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
                row = connection.execute(_OPEN).fetchone()
        except psycopg.OperationalError:
            return -1
        return int(row[0]) if row else 0

    @property
    def plans(self) -> list[Plan]:
        """All flows that its workers have."""
        return [*plans(self.seed), *timed(int(self.env["SOAK_STEADY"]))]

    def history(self, limits: Limits) -> History:
        """All that was recorded. The workers are gone by then."""
        for post in self.posts:
            if post.worker is not None:
                post.worker.kill()
        for each in self.beats:
            if each.beat is not None:
                each.beat.kill()
        if self.crowd is not None:
            self.crowd.hear_out()
        for door in self.doors:
            if door.api is not None:
                door.api.kill()
        if self.people is not None:
            self.people.stop()
        offset = self.offset.until_now()
        assert abs(offset.drift_ns) < SECOND, f"the wall clock was set: {offset.drift_ns / 1e6:.1f} ms"
        invocations, messages = recorder.read_log(Path(self.env["TEST_EFFECTS"]))
        changes = recorder.changes(self.url, offset)
        touched = [change for change in changes if change.run_id in self.strangers]
        assert not touched, f"runs of a release that is not here were touched: {touched[:3]}"
        final, manifests = strangers.left_out(
            recorder.final_rows(self.url, offset), recorder.manifests(self.url), self.strangers
        )
        found = History(
            invocations=tuple(invocations),
            calls=tuple(
                call for each in (*self.loads, *self._those_asked, *self._those_at_the_door) for call in each.calls
            ),
            sent=tuple(sent for each in self._those_asked for sent in each.sent),
            deliveries=tuple(one for each in self._those_at_the_door for one in each.deliveries),
            heard=tuple(one for each in self._those_at_the_door for one in each.heard),
            listening_ns=self.crowd.listener.since_ns if self.crowd is not None else 0,
            lost_places=self.crowd.lost_places if self.crowd is not None else 0,
            faults=(*self.faults, *self.pulse.stalls),
            changes=tuple(changes),
            messages=tuple(messages),
            final=final,
            manifests=manifests,
            effects=recorder.effects(self.url),
            quiet=tuple(self.quiet),
            limits=limits,
            ended_ns=time.monotonic_ns(),
            wall_ns=-offset.offset_ns - offset.drift_ns // 2,
            notes=self._notes(),
        )
        return payloads.read(found, self.store)

    def astray(self, history: History) -> Iterator[Violation]:
        """What is wrong with long results, in the end and when all that ended is forgotten."""
        for crowd in self._those_at_the_door:
            yield from told.unfit(crowd.exchanges)
        yield from payloads.astray(history.final, self.store)
        yield from payloads.left(self.settings, self.url, self.store)

    @property
    def store(self) -> Path:
        """Where long results are."""
        return self.folder / "store"

    @property
    def _those_asked(self) -> list[People]:
        return [self.people] if self.people is not None else []

    @property
    def _those_who_call(self) -> list[Load | People | Crowd]:
        return [*self.loads, *self._those_asked, *self._those_at_the_door]

    @property
    def _those_at_the_door(self) -> list[Crowd]:
        return [self.crowd] if self.crowd is not None else []

    def _notes(self) -> dict[str, int]:
        """What only the workers' logs tell."""
        found: Counter[str] = Counter()
        for post in self.posts:
            for log in post.logs:
                for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
                    found["stale"] += " step.stale " in line
                    found["not started"] += " step.not_started " in line
                    found["handed back"] += " step.handed_back " in line
                    found["fenced"] += " lease.fenced " in line
                    found["abandoned threads"] += " step.abandoned " in line
                    if raised := _RAISED.match(line):
                        found[f"logged {raised[1]}"] += 1
        for log in self.folder.glob("b[0-9]*.log"):
            text = log.read_text(errors="replace")
            found["beats that took the lead"] += text.count(" beat.leads ")
            found["beats that lost their lock"] += text.count(" beat.lock_lost")
        for crowd in self._those_at_the_door:
            found.update({f"http {name}": round(value) for name, value in figures.figures(crowd.exchanges).items()})
        return dict(found)


def limits_of(settings: Settings, liveness_s: float) -> Limits:
    """The settings, as the checker knows them."""
    return Limits(
        lease_ns=int(settings.lease.total_seconds() * SECOND),
        crash_limit=settings.crash_limit,
        grace_ns=int(settings.cancel_grace.total_seconds() * SECOND),
        liveness_ns=int(liveness_s * SECOND),
        slack_ns=20_000_000,
        stall_ns=5 * SECOND,
    )


def _driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def open_field(seed: int, folder: Path, *, steady: int = 1, pooler: str = "session", **changes: Any) -> Iterator[Field]:
    """Servers of its own, a migrated and recorded ledger, and no worker yet; `steady` schedules fire every second, with
    0 there is no schedule at all; `pooler` is the mode of the one in front; `changes` are settings."""
    with (
        servers.postgres(folder / "postgres") as server,
        servers.broker(folder / "valkey") as broker,
        databases.created(server) as database,
        nursery() as nest,
        ExitStack() as stack,
    ):
        url = server.url_of(database)
        migrate.upgrade(url)
        unreadable = strangers.settle(url)
        recorder.install(url)
        orders = folder / "orders"
        orders.mkdir()
        env = {
            nemesis.VARIABLE: str(orders),
            "SOAK_SEED": str(seed),
            "SOAK_STEADY": str(steady),
            "TEST_EFFECTS": str(folder / "effects.log"),
        }
        (folder / "store").mkdir()
        store = {"payload_store": f"file://{folder / 'store'}", "payload_threshold": payloads.THRESHOLD}
        settings = settings_for(url, broker.url, {**store, **changes})
        through = None
        if pooler == "transaction" or bouncer.installed():  # it is asked for, or welcome
            through = stack.enter_context(_pooler(url, folder, pooler, settings.statement_timeout))
        made = Field(seed, folder, server, broker, url, settings, nest, stack, env, unreadable, through, pooler)
        stack.callback(made.close_load)
        yield made


def _pooler(url: str, folder: Path, mode: str, limit: timedelta) -> AbstractContextManager[str]:
    """It comes back to a server that was away within a second. A role of its own has the settings for transaction mode:
    whoever checks the record takes longer."""
    role, size = "pooled", 60 if mode == "session" else 12
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{role}'; {roles.settings(limit, role)}".encode()
        )
        own = f"{role}:{role}@{connection.info.host}:{connection.info.port}/{connection.info.dbname}"
    return bouncer.bouncer(f"postgresql://{own}", folder, mode, size=size, server_login_retry=1)


def settings_for(database_url: str, broker_url: str, changes: dict[str, Any]) -> Settings:
    """Short times, so that a soak of minutes holds many recoveries."""
    values: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "broker_url": SecretStr(broker_url),
        "key_prefix": "soak:",
        "migrate": False,
        "lease": LEASE,
        "heartbeat": LEASE / 4,
        "sweep_interval": timedelta(seconds=0.5),
        "redispatch_after": timedelta(seconds=1.5),
        "statement_timeout": timedelta(seconds=3),
        "prefetch_multiplier": 2,
        "cancel_grace": timedelta(seconds=1.5),
        "stop_grace": timedelta(seconds=1.2),
        "worker_ttl": timedelta(seconds=6),
        "crash_limit": 8,
        "beat_lock": BEAT_LOCK,
        "beat_interval": BEAT_LOCK / 4,
        "reconcile_interval": timedelta(seconds=3),
        "watchdog_interval": timedelta(seconds=1),
        "tick_grace": timedelta(seconds=1),
    }
    return Settings(**{**values, **changes})
