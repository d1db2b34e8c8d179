"""`orchestrator run`: what goes to stdout, what to stderr, and the exit codes."""

import io
import json
import re
import threading
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from threading import Event
from uuid import UUID

import pytest

from orchestrator import flow, start_run
from orchestrator.cli import watch
from orchestrator.cli.render import short
from orchestrator.client import Client, runtree
from orchestrator.core.states import RunStatus
from orchestrator.engine.subflows import report
from orchestrator.engine.sweeps import rollups
from orchestrator.ledger import rollups as counts
from tests.cli.conftest import Cli
from tests.cli.ways import Author
from tests.support import play
from tests.support.eventually import eventually
from tests.support.row_counts import Counted
from tests.support.small_flows import crowd_of, fan, hello


@flow
def calling(name: str) -> object:
    return [hello(name), start_run(hello, name)]


def started(cli: Cli, *arguments: str) -> UUID:
    return UUID(cli("run", "start", "hello", "-i", "name=you", *arguments).out.strip())


def test_start_prints_the_id_alone_on_stdout(cli: Cli, stack: Client) -> None:
    said = cli("run", "start", "hello", "-i", "name=you", "--tag", "a", "--tag", "b")
    row = stack.run(said.out.strip()).row()
    assert (row.body, row.tags) == ({"name": "you", "times": 1}, ("small", "a", "b"))
    assert "run watch" in said.err


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (["-i", "name=12"], {"name": "12", "times": 1}),  # the flow takes a text
        (["-i", "name=true", "-i", "times=3"], {"name": "true", "times": 3}),
        (["-i", "name=1.10"], {"name": "1.10", "times": 1}),
        (["-i", "name=a=b"], {"name": "a=b", "times": 1}),
        (["-i", "name="], {"name": "", "times": 1}),
        (["--input", '{"name": "x", "times": 2}', "-i", "times=5"], {"name": "x", "times": 5}),
        (["--input", "@in.json"], {"name": "file", "times": 1}),
        (["--input", "-"], {"name": "stdin", "times": 1}),
    ],
)
def test_inputs_come_from_pairs_files_and_stdin(
    cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch, given: list[str], body: object
) -> None:
    Path("in.json").write_text('{"name": "file"}')
    monkeypatch.setattr("sys.stdin", io.StringIO('{"name": "stdin"}'))
    said = cli("run", "start", "hello", *given)
    assert stack.run(said.out.strip()).row().body == body


def test_an_idempotency_key_gives_the_first_run_again(cli: Cli, stack: Client) -> None:
    first = started(cli, "--idempotency-key", "k")
    again = cli("run", "start", "hello", "-i", "name=you", "--idempotency-key", "k", "-o", "json")
    assert again.json == {"id": str(first), "flow": "hello", "created": False}
    said = cli("run", "start", "hello", "-i", "name=other", "--idempotency-key", "k", code=7)
    assert str(first) in said.err


def test_headers_are_given_by_name(cli: Cli, stack: Client) -> None:
    secret = ["--header", "authorization=Bearer x"]
    said = cli("run", "start", "hello", "-i", "name=you", "--header", "Via=a=b", "--header", "via=c", *secret)
    with stack.ledger.auto() as tx:
        (row,) = tx.exec_driver_sql("SELECT trigger_headers FROM flow_runs").all()
    assert row.trigger_headers == {"via": "a=b, c"}
    assert "The header authorization is never kept" in said.err
    assert "Bearer" not in said.err
    for wrong in ("Bearer x", "=x"):
        assert "write --header name=value" in cli("run", "start", "hello", "--header", wrong, code=2).err


def test_a_run_may_begin_later(cli: Cli, stack: Client) -> None:
    """Where runs are listed, shown and explained, it says when."""
    run_id = started(cli, "--start-after", "2100-01-01T00:00:00+00:00")
    assert "begins 2100-01-01 00:00:00 UTC" in cli("run", "ls").out
    assert "2100-01-01" in cli("run", "show", str(run_id)).out
    assert "begins at 2100-01-01 00:00:00 UTC" in cli("run", "explain", str(run_id)).out
    cli("run", "cancel", str(run_id))
    said = cli("run", "start", "hello", "-i", "name=you", "--start-after", "soon", code=2)
    assert "'soon' is neither a length of time nor a time" in said.err


def _play(client: Client, fails: bool) -> threading.Thread:
    def work() -> None:
        row = eventually(lambda: client.runs(status="pending"))[0]
        if fails:
            play.fail(client.ledger, row.id, "greet", "no greeting")
        else:
            play.finish_hello(client.ledger, row.id)

    worker = threading.Thread(target=work)
    worker.start()
    return worker


def test_wait_prints_the_result(cli: Cli, stack: Client) -> None:
    worker = _play(stack, fails=False)
    said = cli("run", "start", "hello", "-i", "name=you", "--wait", "--timeout", "60s")
    worker.join()
    assert said.json == {"text": "hello you", "length": 9}


def test_wait_ends_with_1_when_the_run_fails(cli: Cli, stack: Client) -> None:
    worker = _play(stack, fails=True)
    said = cli("run", "start", "hello", "-i", "name=you", "--wait", "-o", "json", code=1)
    worker.join()
    assert said.json["status"] == "failed"
    assert said.json["error"]["message"] == "no greeting"
    assert f"orchestrator run retry {said.json['id']}" in said.err


def test_wait_ends_with_6_when_the_time_is_over(cli: Cli, stack: Client) -> None:
    said = cli("run", "start", "hello", "-i", "name=you", "--wait", "--timeout", "100ms", code=6)
    assert "run explain" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["start", "helo"], 3, "did you mean `hello`?"),
        (["start", "hello"], 2, '"name" is a required property'),
        (["start", "hello", "-i", "nam=x"], 2, "does not fit"),
        (["start", "hello", "-i", "name"], 2, "-i key=value"),
        (["start", "hello", "-i", "=x"], 2, "-i key=value"),
        (["start", "hello", "-i", "name=x", "-i", "times=many"], 2, "`times`"),
        (["start", "hello", "--input", '{"name": }'], 2, "line 1, column 10"),
        (["start", "hello", "--input", '["name"]'], 2, "a JSON list"),
        (["start", "hello", "--input", '{"name": "x", "times": NaN}'], 2, "NaN is not a JSON number"),
        (["start", "hello", "--input", "@missing.json"], 2, "No such file"),
        (["start", "hello", "--input", "@."], 2, "Is a directory"),
        (["start", "hello", "-i", "name=x", "--timeout", "5s"], 2, "add --wait"),
        (["start", "hello", "-i", "name=x", "--wait", "--timeout", "soon"], 2, "'soon' is not a length of time"),
        (["start", "hello", "-i", "name=x", "--idempotency-key", "k" * 300], 2, "1 to 255 characters"),
        (["start", "hello", "-i", "name=x", "--flows", "missing_module"], 2, "missing_module"),
        (["start", "hello", "-i", "name=x", "-o", "yaml"], 2, "yaml"),
        (["start"], 2, "FLOW"),
        (["ls", "--status", "done"], 2, "no run status 'done'"),
        (["ls", "--limit", "0"], 2, "--limit"),
        (["ls", "flwo:hello"], 2, "did you mean `flow`?"),
        (["ls", "--where", "status:faild"], 2, "character 8"),
        (["show", "zzzz"], 3, "not a run id"),
        (["show", "01a"], 3, "at least 4"),
        (["show", "00000000-0000-7000-8000-000000000000"], 3, "No run"),
        (["watch", "ffffffff"], 3, "No run"),
        (["cancel", "ffffffff"], 3, "No run"),
        (["retry", "ffffffff", "measure"], 2, "ffffffff/measure"),
        (["ls", "--flow", "helo"], 3, "did you mean `hello`?"),
        (["ls", "--since", "yesterday"], 2, "'yesterday' is not a time"),
        (["show", "job-1234"], 3, "run ls --key job-1234"),
        (["show", "ffffffff/greet"], 3, "No run"),
        (["delete", "ffffffff", "--yes"], 3, "No run"),
        (["retry", "ffffffff"], 3, "No run"),
        (["events", "ffffffff"], 3, "No run"),
        (["result", "ffffffff"], 3, "No run"),
        (["explain", "ffffffff/greet"], 3, "No run"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(
    cli: Cli, stack: Client, counted: Counted, arguments: list[str], code: int, message: str
) -> None:
    before = counted()
    said = cli("run", *arguments, code=code)
    assert message in said.err
    assert said.out == ""
    assert counted() == before


def test_ls_lists_the_newest_first(cli: Cli, stack: Client) -> None:
    first, second = started(cli), started(cli, "--tag", "x")
    rows = cli("run", "ls", "-o", "json").json
    assert [row["id"] for row in rows] == [str(second), str(first)]
    assert [json.loads(line)["id"] for line in cli("run", "ls", "--tag", "x", "-o", "jsonl").out.splitlines()] == [
        str(second)
    ]
    table = cli("run", "list", "--flow", "hello").out.splitlines()
    assert table[0].split() == ["id", "flow", "version", "status", "tags", "accepted", "duration", "error"]
    assert table[1].startswith(str(second)[-12:])
    assert len(table) == 3


def test_an_empty_list_leaves_stdout_empty(cli: Cli, stack: Client) -> None:
    said = cli("run", "ls")
    assert (said.out, "No run matches" in said.err) == ("", True)
    assert cli("run", "ls", "-o", "json").json == []


def test_show_has_the_run_and_its_steps(cli: Cli, stack: Client) -> None:
    run = started(cli)
    play.fail(stack.ledger, run, "greet", "no\x1b[31m greeting\nsecond line")
    said = cli("run", "show", str(run)[:13])
    assert f"run:          {run}" in said.out
    assert "ValueError: no [31m greeting" in said.out
    assert "\x1b" not in said.out  # a message must not command the terminal
    assert "measure" in said.out
    shown = cli("run", "get", str(run), "-o", "json").json
    assert shown["status"] == "failed"
    assert [step["status"] for step in shown["steps"]] == ["failed", "skipped"]


def test_show_folds_a_big_fan_out(cli: Cli, stack: Client) -> None:
    run = UUID(cli("run", "start", "fan", "-i", "count=200").out.strip())
    play.succeed(stack.ledger, run, "numbers", list(range(200)))
    play.succeed(stack.ledger, run, "double.7.double", 14)
    said = cli("run", "show", str(run))
    assert "1 succeeded, 199 ready" in said.out
    assert "double.7.double" not in said.out
    assert "double.7.double" in cli("run", "show", str(run), "--all").out


def _play_at_first_rest(monkeypatch: pytest.MonkeyPatch, stack: Client) -> None:
    """The run is played when whoever follows it has seen it and rests, however slow that is."""
    rest, played = watch._rest, Event()

    def play_first(end: Future[RunStatus], pause_s: float) -> None:
        if not played.is_set():
            played.set()
            (row,) = stack.runs(status="pending")
            play.finish_hello(stack.ledger, row.id)
        rest(end, pause_s)

    monkeypatch.setattr(watch, "_rest", play_first)


def test_watch_prints_a_line_for_each_change_and_ends_as_the_run(
    cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(cli)
    _play_at_first_rest(monkeypatch, stack)
    said = cli("run", "watch", str(run))
    lines = [line.split("  ", 1)[1] for line in said.out.splitlines()]
    assert lines[:2] == ["run pending", "greet ready"]
    assert lines[-1] == "run succeeded"
    assert "measure succeeded" in lines


def test_watch_deep_follows_the_runs_below_to_their_ends(cli: Cli, stack: Client) -> None:
    """Also those that nobody waits for; each indented below the one that called it."""
    run = stack.start(calling, name="you")
    called, apart = (row.id for row in run.children())

    def work() -> None:
        play.finish_hello(stack.ledger, called)
        report.tell(stack.ledger, called)
        eventually(lambda: run.status() == "succeeded")
        play.finish_hello(stack.ledger, apart)

    worker = threading.Timer(0.5, work)
    worker.start()
    said = cli("run", "watch", str(run.id), "--deep")
    worker.join()
    lines = [line.split("  ", 1)[1] for line in said.out.splitlines()]
    for one in (called, apart):
        assert f"  {short(one)} hello succeeded" in lines
    assert lines.index(f"  {short(called)} hello succeeded") < lines.index("run succeeded")
    assert lines.count("  greet succeeded") == 2
    assert "hello succeeded" in cli("run", "watch", str(run.id), "--deep").out
    assert "greet" not in cli("run", "watch", str(run.id)).out


def test_the_tree_shows_each_run_below_the_one_that_called_it(cli: Cli, stack: Client) -> None:
    run = stack.start(calling, name="you")
    called, apart = run.children()
    assert cli("run", "tree", str(run.id)).out.splitlines() == [
        f"{short(run.id)}  calling  running",
        f"├─ {called.step}: {short(called.id)}  hello  pending",
        f"└─ {apart.step}: {short(apart.id)}  hello  pending",
    ]
    found = cli("run", "tree", str(run.id), "-o", "json").json
    assert [(one["id"], one["children"], one["more"]) for one in found["children"]] == [
        (str(called.id), [], False),
        (str(apart.id), [], False),
    ]
    assert (found["more"], found["cut"]) == (False, False)


def test_a_wide_tree_says_that_there_is_more(cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stack.start(calling, name="you")
    monkeypatch.setattr(runtree, "MOST", 1)
    monkeypatch.setattr(runtree, "LIMIT", 2)
    said = cli("run", "tree", str(run.id))
    assert len(said.out.splitlines()) == 3
    assert "… more" in said.out
    assert "Only the nearest runs are shown" in said.err


def test_watch_of_a_failed_cancelled_or_endless_run_ends_with_its_code(cli: Cli, stack: Client) -> None:
    failed, cancelled, endless = started(cli), started(cli), started(cli)
    play.fail(stack.ledger, failed, "greet")
    stack.run(cancelled).cancel("enough", by="me")
    assert "ValueError: boom" in cli("run", "watch", str(failed), code=1).out
    assert "enough" in cli("run", "watch", str(cancelled), code=5).err
    cli("run", "watch", str(endless), "--timeout", "300ms", code=6)


def test_result_prints_json_once_there_is_one(cli: Cli, stack: Client) -> None:
    run = started(cli)
    assert "--wait" in cli("run", "result", str(run), code=7).err
    cli("run", "result", str(run), "--timeout", "50ms", code=6)
    play.finish_hello(stack.ledger, run)
    assert cli("run", "result", str(run)).json == {"text": "hello you", "length": 9}
    assert cli("run", "result", str(run), "-o", "jsonl").out.count("\n") == 1


def test_cancel_records_who_and_why_and_may_be_repeated(cli: Cli, stack: Client, author: Author) -> None:
    run = started(cli)
    said = cli("run", "cancel", str(run), "--reason", "a test", *author.by("ann"))
    assert said.out.split() == [str(run), "cancelled"]
    cli("run", "cancel", str(run))
    shown = cli("run", "events", str(run)).out
    assert author.recorded("ann") in shown
    assert "a test" in shown
    cli("run", "result", str(run), code=5)


def test_cancel_and_retry_of_a_finished_run_are_conflicts(cli: Cli, stack: Client, counted: Counted) -> None:
    run = started(cli)
    play.finish_hello(stack.ledger, run)
    before = counted()
    assert "has ended" in cli("run", "cancel", str(run), code=7).err
    cli("run", "retry", str(run), code=7)
    assert counted() == before


def test_rerun_prints_the_id_of_the_new_run(cli: Cli, stack: Client, author: Author) -> None:
    """Both say where they come from."""
    run = started(cli)
    play.finish_hello(stack.ledger, run)
    made = UUID(cli("run", "rerun", str(run), "--from", "measure", *author.by("ann")).out.strip())
    assert [step.status for step in stack.run(made).steps()] == ["succeeded", "ready"]
    shown = cli("run", "show", str(made)).out
    assert re.search(rf"made of run: +{run}", shown)
    assert f"kept from run {run}" in shown
    assert cli("run", "show", str(made), "-o", "json").json["source"] == str(run)
    assert re.search(rf"run again as: +{made}", cli("run", "show", str(run)).out)
    assert cli("run", "show", str(run), "-o", "json").json["reruns"] == [str(made)]
    play.succeed(stack.ledger, made, "measure", {"text": "", "length": 0})
    assert stack.run(made).status() == "succeeded"


def test_rerun_with_another_input(cli: Cli, stack: Client) -> None:
    """`-i` changes a parameter of the run's own input, `--input` replaces all of it."""
    run = started(cli)
    for given, body in (
        (["-i", "times=3"], {"name": "you", "times": 3}),
        (["--input", '{"name": "x"}'], {"name": "x", "times": 1}),
    ):
        said = cli("run", "rerun", str(run), *given, "-o", "json").json
        assert said["source"] == str(run)
        assert stack.run(said["id"]).row().body == body
    assert "times" in cli("run", "rerun", str(run), "--input", '{"name": "x", "times": "y"}', code=2).err


def test_a_dry_rerun_says_what_would_be_kept(cli: Cli, stack: Client, counted: Counted) -> None:
    run = started(cli)
    play.finish_hello(stack.ledger, run)
    before = counted()
    said = cli("run", "rerun", str(run), "--from", "measure", "--dry-run", "-i", "name=me")
    assert [line.split(": ")[0] for line in said.out.splitlines()] == [
        "kept",
        "run again",
        "new in the version",
        "dropped",
    ]
    assert [line.split()[-1] for line in said.out.splitlines()] == ["greet", "measure", "nothing", "nothing"]
    assert "Kept although they read what is changed in the input: greet." in said.err
    assert "new idempotency keys" in said.err
    plain = cli("run", "rerun", str(run), "--dry-run", "-o", "json").json
    assert plain == {"kept": [], "settled": [], "again": ["greet", "measure"], "new": [], "dropped": [], "changed": []}
    assert counted() == before


def test_a_run_is_drawn_with_where_its_steps_stand(cli: Cli, stack: Client) -> None:
    run = stack.start(fan, count=3)
    play.succeed(stack.ledger, run.id, "numbers", [1, 2, 3])
    play.succeed(stack.ledger, run.id, "double.0.double", 2)
    assert cli("run", "graph", str(run.id)).out.splitlines() == [
        f"fan@1, run {run.id}: running",
        "  numbers  = succeeded",
        "  double (for each)  <- numbers  = running: 2 ready, 1 succeeded",
        "    double",
    ]
    mermaid = cli("run", "graph", str(run.id), "--mermaid").out
    assert "    class s0 succeeded\n" in mermaid
    assert 'subgraph s1["double: for each, 2 ready, 1 succeeded"]' in mermaid
    assert 'fillcolor="#' in cli("run", "graph", str(run.id), "--dot").out


def test_a_step_is_skipped(cli: Cli, stack: Client, author: Author) -> None:
    run = started(cli)
    said = cli("run", "skip", str(run), "greet", "--reason", "not needed", *author.by("ann"))
    assert said.out == f"{run}/greet  skipped\n"
    assert "The run is succeeded" in said.err
    assert f"skipped by {author.recorded('ann')}: not needed" in cli("run", "show", str(run)).out
    assert "it is skipped" in cli("run", "skip", str(run), "greet", "--reason", "x", code=7).err
    assert "Missing option '--reason'" in cli("run", "skip", str(run), "greet", code=2).err
    assert "it is skipped" in cli("run", "skip", f"{run}/greet", "--reason", "x", code=7).err
    assert f"as in {run}/STEP" in cli("run", "skip", str(run), "--reason", "x", code=2).err
    assert f"as in {run}/greet" in cli("run", "skip", f"{run}/a", "greet", "--reason", "x", code=2).err


def test_a_step_is_marked_as_done(cli: Cli, stack: Client, author: Author) -> None:
    """With an output that its code takes, if that is at hand."""
    run = started(cli)
    Path("out.json").write_text('"hello by hand"')
    said = cli("run", "mark", str(run), "greet", "--output", "@out.json", "--reason", "by phone", *author.by("ann"))
    assert said.out == f"{run}/greet  succeeded\n"
    assert "is not checked by the type" in said.err
    code = ("--flows", "tests.support.small_flows")
    mark = ("run", "mark", str(run), "measure", "--reason", "x", *code)
    assert "length" in cli(*mark, "--output", '{"text": "y"}', code=1).err
    said = cli(*mark, "--output", '{"text": "y", "length": 3}', "-o", "json")
    assert said.json == {"id": str(run), "step": "measure", "status": "succeeded", "run": "succeeded"}
    assert cli("run", "result", str(run)).json == {"text": "y", "length": 3}
    assert (
        "did you mean `measure`" in cli("run", "mark", str(run), "mesure", "--output", "1", "--reason", "x", code=3).err
    )
    assert "--output is not JSON" in cli("run", "mark", str(run), "greet", "--output", "{", "--reason", "x", code=2).err


def test_rerun_refuses_what_it_cannot_do(cli: Cli, stack: Client) -> None:
    run = started(cli)
    assert "has ended" in cli("run", "rerun", str(run), "--from", "measure", code=7).err
    play.finish_hello(stack.ledger, run)
    assert "did you mean `measure`" in cli("run", "rerun", str(run), "--from", "mesure", code=3).err


def test_what_the_parser_refuses_is_one_line_too(cli: Cli) -> None:
    """With the command that shows how it is called; no usage text above it."""
    for arguments, said in (
        (["run", "ls", "--limit", "0"], "Invalid value for '--limit'"),
        (["run", "ls", "--nope"], "No such option: --nope"),
        (["run", "show"], "Missing argument"),
        (["run", "wait"], "No such command 'wait'. Did you mean 'watch'? Fix:"),
        (["rum"], "No such command 'rum'"),
    ):
        err = cli(*arguments, code=2).err
        assert err.startswith(f"error: {said}")
        assert re.search(r"Fix: see `[^`]*orchestrator( \w+)* --help`\. \[usage\]\n$", err)
        assert err.count("\n") == 1
    assert cli("run", code=2).err or cli("run", code=None).out


def test_a_step_where_whole_runs_are_asked_for_is_told_so(cli: Cli, stack: Client) -> None:
    run = started(cli)
    for verb in ("cancel", "delete"):
        more = ["--yes"] if verb == "delete" else []
        err = cli("run", verb, f"{run}/greet", *more, code=3).err
        assert f"names a step, and this takes whole runs. Fix: leave /greet out: {run}." in err


def test_retry_of_an_unknown_step_names_those_there_are(cli: Cli, stack: Client, counted: Counted) -> None:
    run = started(cli)
    play.fail(stack.ledger, run, "greet")
    before = counted()
    assert "greet, measure" in cli("run", "retry", f"{run}/nope", code=3).err
    assert counted() == before


def test_retry_takes_the_step_in_both_forms(cli: Cli, stack: Client, author: Author) -> None:
    for form in (lambda run: [f"{run}/greet"], lambda run: [run]):
        run = started(cli)
        play.fail(stack.ledger, run, "greet")
        said = cli("run", "retry", *form(str(run)), *author.by("ann"), "--force", "-o", "json")
        assert said.json == {"id": str(run), "status": "running"}


def test_explain_says_what_a_run_waits_for(cli: Cli, stack: Client) -> None:
    run = started(cli)
    said = cli("run", "explain", str(run)).out.splitlines()
    assert "no worker is live" in said[0]
    assert said[1].startswith("Next: orchestrator worker")
    assert "greet" in cli("run", "explain", f"{run}/measure", "-o", "json").json["sentence"]
    cli("run", "explain", f"{run}/nope", code=3)


def test_events_can_be_read_from_any_point(cli: Cli, stack: Client) -> None:
    run = started(cli)
    events = cli("run", "events", str(run), "-o", "json").json
    assert [event["type"] for event in events] == ["run.accepted", "step.dispatched"]
    later = cli("run", "events", str(run), "--after", str(events[0]["id"]), "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["type"] for line in later] == ["step.dispatched"]


def test_two_runs_with_one_beginning_are_told_apart(cli: Cli, stack: Client) -> None:
    one, two = started(cli), started(cli)
    said = cli("run", "show", str(one)[:6], code=7)
    assert str(one) in said.err
    assert str(two) in said.err
    assert str(one) in cli("run", "show", str(one)[-6:]).out


def test_a_listing_says_how_much_it_leaves_out(cli: Cli, stack: Client) -> None:
    runs = [started(cli, "--idempotency-key", f"job-{number}") for number in range(5)]
    said = cli("run", "ls", "--limit", "2")
    assert len(said.out.splitlines()) == 3
    assert f"2 of 5 runs are shown. See more: --after {str(runs[3])[-12:]}, or --limit." in said.err
    rest = cli("run", "ls", "--after", str(runs[3]), "-o", "jsonl", "--limit", "10")
    assert [json.loads(line)["id"] for line in rest.out.splitlines()] == [str(run) for run in runs[2::-1]]
    assert rest.err == ""
    assert "shown" not in cli("run", "ls", "--limit", "5").err


def test_runs_are_found_by_key_error_and_time(cli: Cli, stack: Client) -> None:
    one, two = started(cli, "--idempotency-key", "job-1"), started(cli)
    play.fail(stack.ledger, two, "greet", "The printer is on FIRE")

    def ids(*wanted: str) -> list[UUID]:
        return [UUID(row["id"]) for row in cli("run", "ls", "-o", "json", *wanted).json]

    assert ids("--key", "job-1") == [one]
    assert ids("--error", "printer is on fire") == [two]
    assert ids("--error", "ValueError") == [two]
    assert ids("--since", "1h") == [two, one]
    assert ids("--until", "1h") == []
    assert ids("--since", "2020-01-01", "--until", "2020-02-01T07:00Z") == []


def test_runs_are_found_by_a_query(cli: Cli, stack: Client) -> None:
    one, two, three = started(cli, "--tag", "a"), started(cli, "--tag", "b"), started(cli)
    play.fail(stack.ledger, two, "greet", "The printer is on FIRE")

    def ids(*wanted: str) -> list[UUID]:
        return [UUID(row["id"]) for row in cli("run", "ls", "-o", "json", *wanted).json]

    assert ids("flow:hello status:failed age<1d") == [two]
    assert ids("flow:hello", "status:pending", "--where", "-tag:a") == [three]
    assert ids("--where", "-status:failed", "--tag", "a") == [one]
    assert ids("--status", "failed", "--status", "pending") == [three, two, one]
    assert ids("'is on fire'") == [two]
    assert ids("schedule:hello/nightly") == ids("--schedule", "nightly") == []


def test_errors_are_counted_by_what_went_wrong(cli: Cli, stack: Client) -> None:
    assert "No run that matches has failed" in cli("run", "errors").err
    runs = [started(cli) for _ in range(3)]
    for number, run in enumerate(runs):
        play.fail(stack.ledger, run, "greet", f"The printer {number} is on fire")
    (group,) = cli("run", "errors", "flow:hello", "--since", "1h", "-o", "json").json
    assert (group["count"], group["example"], group["flows"]) == (3, str(runs[-1]), ["hello"])
    found = cli("run", "ls", f"error:{group['fingerprint']}", "-o", "json").json
    assert [row["id"] for row in found] == [str(run) for run in reversed(runs)]
    assert group["fingerprint"] in cli("run", "errors").out


def test_runs_that_ended_are_counted(cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "FRESH", timedelta(seconds=-5))
    run = started(cli)
    play.finish_hello(stack.ledger, run)
    play.fail(stack.ledger, started(cli), "greet")
    assert rollups.count(stack.ledger).changed == 2
    rows = cli("run", "stats", "hello", "--since", "1h", "--every", "10m", "-o", "json").json
    assert sorted((row["status"], row["count"]) for row in rows) == [("failed", 1), ("succeeded", 1)]
    assert "succeeded" in cli("run", "stats").out
    assert "No run ended" in cli("run", "stats", "fan").err
    assert "at most" in cli("run", "stats", "--since", "365d", "--every", "1m", code=2).err
    assert "is empty" in cli("run", "stats", "--since", "1h", "--until", "2h", code=2).err


def test_inputs_are_listed_when_asked_for(cli: Cli, stack: Client) -> None:
    started(cli)
    (row,) = cli("run", "ls", "-o", "json").json
    assert "body" not in row
    (row,) = cli("run", "ls", "-o", "json", "--inputs").json
    assert row["body"]["name"] == "you"


def test_many_runs_are_operated_by_one_command(cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals are named one by one, and the rest goes on."""
    failed, done = [started(cli) for _ in range(3)], started(cli)
    for run in failed:
        play.fail(stack.ledger, run, "greet")
    play.finish_hello(stack.ledger, done)
    said = cli("run", "retry", str(failed[0]), str(done), code=7)
    assert said.out.split() == [str(failed[0]), "running"]
    assert f"{done}: Run {done}" in said.err
    assert "1 of 2 run again." in said.err
    listed = cli("run", "ls", "--status", "failed", "-o", "jsonl").out
    monkeypatch.setattr("sys.stdin", io.StringIO(listed))
    said = cli("run", "retry", "-", "-o", "jsonl")
    assert {json.loads(line)["id"] for line in said.out.splitlines()} == {str(run) for run in failed[1:]}
    assert "2 of 2 run again." in said.err
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(str, failed))))
    assert "3 of 3 cancelled" in cli("run", "cancel", "-", "-o", "json").err
    shown = cli("run", "show", *map(str, failed), "-o", "json").json
    assert [row["status"] for row in shown] == ["cancelled"] * 3


def test_show_of_one_step_has_its_attempts_inputs_and_output(cli: Cli, stack: Client) -> None:
    run = started(cli)
    play.succeed(stack.ledger, run, "greet", "hello you")
    play.fail(stack.ledger, run, "measure", "no\x1b ruler")
    said = cli("run", "show", f"{run}/greet").out
    assert '"hello you"' in said
    said = cli("run", "show", f"{run}/measure").out
    assert re.search(r"^worker: +test/1/a$", said, re.MULTILINE)
    assert "ValueError: no  ruler" in said
    assert "\x1b" not in said
    shown = cli("run", "show", f"{run}/measure", "-o", "json").json
    assert [row["error_message"] for row in shown["attempt_rows"]] == ["no\x1b ruler"]
    assert shown["output"] is None
    assert "did you mean `greet`" in cli("run", "show", f"{run}/gret", code=3).err


def test_show_lists_failed_children_of_a_big_loop(cli: Cli, stack: Client) -> None:
    run = UUID(cli("run", "start", "fan", "-i", "count=200").out.strip())
    play.succeed(stack.ledger, run, "numbers", list(range(200)))
    play.fail(stack.ledger, run, "double.7.double", "seven")
    said = cli("run", "show", str(run), "--status", "failed").out
    assert "double.7.double" in said
    assert "seven" in said
    assert "double.8.double" not in said


def test_events_are_never_cut_silently(cli: Cli, stack: Client) -> None:
    run = started(cli)
    with stack.ledger.tx() as tx:
        tx.exec_driver_sql(
            "INSERT INTO flow_events (run_id, type) SELECT %s, 'test' FROM generate_series(1, 2500)", (run,)
        )
    assert cli("run", "events", str(run)).out.count(" test") == 2500
    assert len(cli("run", "events", str(run), "-o", "json").json) == 2502
    said = cli("run", "events", str(run), "--limit", "2")
    assert "there are more. Continue with --after" in said.err
    play.finish_hello(stack.ledger, run)
    assert "run.succeeded" in cli("run", "events", str(run), "--follow").out


def test_a_run_that_ended_can_be_deleted(cli: Cli, stack: Client, author: Author) -> None:
    """Its key too: it names somebody perhaps. The flow keeps that it was done, and by whom."""
    run, open_ = started(cli, "--idempotency-key", "ann@example.org"), started(cli)
    play.finish_hello(stack.ledger, run)
    assert "has ended" in cli("run", "delete", str(open_), "--yes", code=7).err
    assert cli("run", "delete", str(run), "--yes", *author.by("bob")).out.split() == [str(run), "deleted"]
    cli("run", "show", str(run), code=3)
    (event,) = cli("flow", "events", "hello", "-o", "json").json
    assert (event["type"], event["facts"]) == ("run.deleted", {"run": str(run), "by": author.recorded("bob")})
    assert started(cli, "--idempotency-key", "ann@example.org") != run


def test_a_start_without_a_worker_says_that_it_waits(cli: Cli, stack: Client) -> None:
    assert "No live worker has flow hello" in cli("run", "start", "hello", "-i", "name=you").err
    with stack.ledger.tx() as tx:
        tx.exec_driver_sql(
            "INSERT INTO flow_workers (id, host, pid, pool, concurrency, prefetch, queues, handlers, release, seen_at,"
            " started_at) VALUES ('h/1/r', 'h', 1, 'threads', 1, 1, '{default}', '{hello.greet}', 'x', now(), now())"
        )
    assert "No live worker" not in cli("run", "start", "hello", "-i", "name=you").err


def test_a_long_wait_is_told_what_goes_on(cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    _play_at_first_rest(monkeypatch, stack)
    said = cli("run", "start", "hello", "-i", "name=you", "--wait", "--timeout", "60s")
    assert said.json == {"text": "hello you", "length": 9}
    assert "greet ready" in said.err


def test_runs_that_items_called_are_shown_below_them(cli: Cli, stack: Client) -> None:
    """In the tree of runs, in the drawing, and followed until they have ended."""
    run = stack.start(crowd_of, names=["you", "me"])
    first, second = (row.id for row in run.children())
    play.finish_hello(stack.ledger, first)
    report.tell(stack.ledger, first)
    assert cli("run", "tree", str(run.id)).out.splitlines() == [
        f"{short(run.id)}  crowd_of  running",
        f"├─ welcomed.0.hello: {short(first)}  hello  succeeded",
        f"└─ welcomed.1.hello: {short(second)}  hello  pending",
    ]
    drawn = cli("run", "graph", str(run.id)).out.splitlines()
    assert drawn[1:] == [
        "  welcomed (for each)  = running: 2 running",
        "    hello (calls flow hello)",
        "    double  <- hello",
    ]

    def work() -> None:
        play.finish_hello(stack.ledger, second)
        report.tell(stack.ledger, second)
        for n in (0, 1):
            play.succeed(stack.ledger, run.id, f"welcomed.{n}.double", 18)

    worker = threading.Timer(0.5, work)
    worker.start()
    said = cli("run", "watch", str(run.id), "--deep")
    worker.join()
    lines = [line.split("  ", 1)[1] for line in said.out.splitlines()]
    for one in (first, second):
        assert f"  {short(one)} hello succeeded" in lines
    assert lines[-1] == "run succeeded"
