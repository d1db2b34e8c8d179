"""The connection breaks between a request and its reply: did the commit happen? It is looked up."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
from pydantic import SecretStr

from orchestrator.core.states import RunStatus
from tests.faults.arena import Arena
from tests.faults.conftest import Make
from tests.support.proxy import Loss, Proxy


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    with make_arena(lease=timedelta(seconds=30), heartbeat=timedelta(seconds=0.5)) as made:
        yield made
        made.judge_all_again()


@pytest.fixture(scope="module")
def proxy(field: Arena) -> Iterator[Proxy]:
    """Between the one worker and its database."""
    with closing(Proxy(field.settings.require_database_url())) as made:
        field.worker(settings=field.settings.model_copy(update={"database_url": SecretStr(made.url)}))
        yield made


@pytest.mark.parametrize("lose", ["request", "reply"])
@pytest.mark.parametrize(
    "words",
    [
        pytest.param([b"first"], id="claim"),
        pytest.param([b"second", b"flaky"], id="finish-and-chain"),
        pytest.param([b"ConnectionError", b"COMMIT"], id="fail"),
        pytest.param([b"part.0.part"], id="claim-of-a-child"),
        pytest.param([b"part.2.part"], id="finish-of-a-child"),
        pytest.param([b"children_open", b"COMMIT"], id="expand"),
        pytest.param([b"total"], id="end-of-a-loop"),  # its last child hands on to the join
        pytest.param([b"total", b"total"], id="join"),
    ],
)
def test_a_plain_commit(field: Arena, proxy: Proxy, words: list[bytes], lose: Loss) -> None:
    """Nothing is executed twice: if it was committed it counts, if not it is asked again."""
    before = proxy.cuts
    proxy.cut(*words, lose=lose)
    run_id = field.start()
    field.check(run_id)
    assert proxy.cuts == before + 1
    assert len([line for line in field.lines(run_id) if line.kind == "start"]) == 12


@pytest.mark.parametrize("lose", ["request", "reply"])
def test_the_commit_that_opens_a_loop(field: Arena, proxy: Proxy, lose: Loss) -> None:
    """It records the step that gives the list, inserts the children and claims the first, in one statement."""
    before = proxy.cuts
    proxy.cut(b"first", b"part", lose=lose)
    run_id = field.start("wide", width=5)
    assert field.ended(run_id) is RunStatus.SUCCEEDED
    assert proxy.cuts == before + 1
    assert len([line for line in field.lines(run_id) if line.kind == "start"]) == 7


@pytest.mark.parametrize(("lose", "executions"), [("request", 2), ("reply", 1)])
def test_the_commit_of_a_transactional_step(field: Arena, proxy: Proxy, lose: Loss, executions: int) -> None:
    """Lost before it was committed, nothing of it happened, so the handler runs again; lost after, it counts."""
    before = proxy.cuts
    proxy.cut(b"INSERT INTO test_payments", b"COMMIT", lose=lose)
    run_id = field.start()
    field.check(run_id, crashed=executions - 1)
    assert proxy.cuts == before + 1
    paid = [line for line in field.lines(run_id) if (line.kind, line.step_key) == ("start", "pay")]
    assert len(paid) == executions


@pytest.mark.parametrize("lose", ["request", "reply"])
def test_a_renewal(field: Arena, proxy: Proxy, lose: Loss) -> None:
    before = proxy.cuts
    proxy.cut(b"renewed_at = flow_now()", lose=lose)
    field.check(field.start(seconds=1.2))
    assert proxy.cuts == before + 1
