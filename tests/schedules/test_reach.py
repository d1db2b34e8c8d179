"""RedBeat's Redis behind TLS and behind Sentinels: a beat finds it as workers find the broker."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from orchestrator.doctor import examine
from orchestrator.errors import Unavailable
from orchestrator.servers import redbeat
from orchestrator.settings import Settings
from tests.schedules.conftest import Field, at
from tests.support import sentinels
from tests.support.eventually import eventually
from tests.support.sentinels import Watched
from tests.support.servers import Broker
from tests.support.tls import Papers, tls_front

pytestmark = pytest.mark.slow
EACH = 'Every("1s"), key="e", missed="all"'
Make = Callable[[Settings], Field]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def announces(ground: Field) -> None:
    ground.wait_ticks(3, "e", by="beat")
    verdict = ground.verdict("e")
    assert verdict.right, verdict
    (found,) = [one for one in examine(ground.settings) if one.check == "beat"]
    assert found.status == "pass", found


def test_a_beat_behind_tls_shows_its_certificate_and_checks_the_servers(
    quick: Settings, broker_server: Broker, field_of: Make, stack: ExitStack, tmp_path: Path
) -> None:
    papers, others = Papers.made(tmp_path / "papers"), Papers.made(tmp_path / "others")
    front = stack.enter_context(tls_front(broker_server.url, papers, ask_client=True))
    ssl = {"ssl_ca_certs": str(papers.ca), "ssl_certfile": str(papers.client), "ssl_keyfile": str(papers.client)}
    safe = at(quick, broker_url=front.url("rediss"), broker_use_ssl=ssl)
    ground = field_of(safe)
    ground.plan(EACH)
    ground.worker()
    shaken = front.shaken
    ground.beat()
    announces(ground)
    assert front.shaken > shaken
    assert front.refused == 0
    plain = at(quick, redbeat_url=front.url("rediss"), broker_use_ssl={**ssl, "ssl_ca_certs": str(others.ca)})
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED") as caught:
        redbeat.check(plain)
    assert caught.value.refused


def test_redbeat_may_have_a_server_of_its_own(quick: Settings, field_of: Make, stack: ExitStack) -> None:
    """In the clear, while the broker speaks TLS; and with options of its own."""
    own = at(quick, redbeat_url=quick.require_broker_url(), redbeat_options={"socket_timeout": 3, "db": 0})
    assert redbeat.options(own)["socket_timeout"] == 3
    with redbeat.client(at(own, broker_url="rediss://127.0.0.1:1/0")) as client:
        assert client.ping()
    assert "db" not in redbeat.options(quick)
    inherited = at(
        quick, broker_transport_options={"socket_timeout": 7, "visibility_timeout": 5, "fanout_prefix": True}
    )
    assert redbeat.options(inherited)["socket_timeout"] == 7
    redbeat.check(inherited)


def test_a_beat_behind_sentinels_follows_the_primary(quick: Settings, field_of: Make, stack: ExitStack) -> None:
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="flow-", ignore_cleanup_errors=True)))
    cluster: Watched = stack.enter_context(sentinels.watched(folder))
    ground = field_of(at(quick, broker_url=cluster.url, broker_transport_options=cluster.options))
    ground.plan(EACH)
    ground.worker()
    beat = ground.beat()
    announces(ground)
    old = cluster.primary
    old.kill()
    cluster.wait_for_other(old)
    ground.wait_ticks(3, "e", by="beat", timeout=60)
    eventually(lambda: ground.scores().keys() == {"ticking/e"})
    assert beat.is_running
    verdict = ground.verdict("e")
    assert verdict.right, verdict
