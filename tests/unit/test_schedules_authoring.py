"""Schedules in code and in manifests: what they become, and every wrong one named with its place."""

import copy
import inspect
import json
import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import orchestrator
from orchestrator import Cron, Every, Flow, Manifest, Schedule, flow, schedule, step
from orchestrator.authoring.discovery import load_flows
from orchestrator.core.manifest import CronTrigger, EveryTrigger, TriggerDef
from orchestrator.core.timing import Timing
from orchestrator.core.triggers import overridden, schedule_def
from orchestrator.errors import AuthoringError, DiscoveryError, ManifestInvalid, ScheduleInvalid

HERE = Path(__file__).name


class Region(BaseModel):
    name: str
    rate: Decimal = Decimal(1)


@step
def load(region: Region) -> int:
    return len(region.name)


def new_flow() -> Flow[..., Any]:
    @flow(name="report")
    def report(region: Region, days: int = 7) -> int:
        return load(region)

    return report


def plain_flow() -> Flow[..., Any]:
    @flow(name="plain")
    def plain() -> None: ...

    return plain


def stored(one: Flow[..., Any]) -> dict[str, Any]:
    """The triggers as the ledger stores them."""
    triggers: dict[str, Any] = json.loads(one.manifest.to_json())["triggers"]
    return triggers


# ---- in code -------------------------------------------------------------------------------------------------------


def test_a_schedule_is_a_trigger_of_the_manifest():
    report = new_flow()
    made = schedule(
        report,
        Cron("0 7 * * 1-5", tz="Europe/Paris", gap="skip"),
        input={"region": Region(name="north", rate=Decimal("1.50"))},
        key="nightly",
        jitter="5m",
        overlap="queue",
        missed="all",
        window="2d",
        start=datetime(2026, 1, 1, tzinfo=UTC),
        end="2027-01-01T00:00:00+01:00",
        paused=True,
        description="Weekdays at seven.",
    )
    assert made.key == "nightly"
    assert stored(report) == {
        "manual": {},
        "nightly": {
            "type": "cron",
            "expression": "0 7 * * 1-5",
            "zone": "Europe/Paris",
            "gap": "skip",
            "input": {"region": {"name": "north", "rate": "1.50"}},
            "jitter": "PT5M",
            "overlap": "queue",
            "missed": "all",
            "window": "P2D",
            "start": "2026-01-01T00:00:00Z",
            "end": "2026-12-31T23:00:00Z",
            "paused": True,
            "description": "Weekdays at seven.",
        },
    }
    trigger = report.manifest.schedules["nightly"]
    assert isinstance(trigger, CronTrigger)
    assert trigger.timing() == Timing(
        Cron("0 7 * * 1-5", tz="Europe/Paris", gap="skip"),
        jitter=timedelta(minutes=5),
        start=datetime(2026, 1, 1, tzinfo=UTC),
        end=datetime(2026, 12, 31, 23, tzinfo=UTC),
    )


def test_defaults_are_not_stored():
    plain = plain_flow()
    schedule(plain, Every("15m"))
    schedule(plain, Cron("@daily"), overlap="allow", missed="latest", jitter=0, paused=False)
    assert stored(plain) == {
        "manual": {},
        "every": {"type": "every", "interval": "PT15M"},
        "cron": {"type": "cron", "expression": "@daily"},
    }


def test_a_flow_has_several_schedules_with_keys_of_their_own():
    plain = plain_flow()
    keys = [schedule(plain, rule).key for rule in (Cron("@daily"), Every("1m"), Cron("@hourly"), Cron("@weekly"))]
    assert keys == ["cron", "every", "cron-2", "cron-3"]
    assert list(plain.manifest.schedules) == keys
    assert isinstance(plain.manifest.triggers["manual"], TriggerDef)


def test_schedules_stand_in_the_decorator_too():
    @flow(schedules=[Cron("@daily"), Every("1m", anchor="2026-01-01T00:00:30Z"), Schedule(Every(90), key="slow")])
    def three() -> None: ...

    assert stored(three) == {
        "manual": {},
        "cron": {"type": "cron", "expression": "@daily"},
        "every": {"type": "every", "interval": "PT1M", "anchor": "2026-01-01T00:00:30Z"},
        "slow": {"type": "every", "interval": "PT1M30S"},
    }


def test_the_decorator_and_the_call_make_the_same_manifest():
    @flow(schedules=[Schedule(Cron("@daily"), jitter="1m", overlap="skip")])
    def plain() -> None: ...

    called = plain_flow()
    schedule(called, Cron("@daily"), jitter="1m", overlap="skip")
    assert plain.manifest.hash == called.manifest.hash


def test_a_flow_made_of_a_manifest_is_scheduled_too():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    data = Flow.from_manifest(Manifest(name="data", steps={}, input_schema=schema), steps=[])
    schedule(data, Every("1h"), input={"n": 3})
    assert stored(data)["every"] == {"type": "every", "interval": "PT1H", "input": {"n": 3}}
    with pytest.raises(AuthoringError, match='does not fit at `n`: "x" is not of type "integer"'):
        schedule(data, Every("2h"), input={"n": "x"})


def test_defaults_of_the_input_are_left_to_the_start_of_a_run():
    report = new_flow()
    schedule(report, Cron("@daily"), input={"region": {"name": "north"}})
    assert stored(report)["cron"]["input"] == {"region": {"name": "north", "rate": "1"}}


GOOD = {"region": {"name": "north"}}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"input": None}, "schedule `cron`: The input of flow `report` does not fit: region: Field required"),
        ({"input": {"region": {"nam": "x"}}}, "does not fit: region.name: Field required"),
        ({"input": {**GOOD, "day": 1}}, "unknown input `day`. Fix: did you mean `days`?"),
        ({"input": {**GOOD, "days": "x"}}, "does not fit: days: Input should be a valid integer"),
        ({"input": {**GOOD, 3: 1}}, "unknown input `3`"),
        ({"input": [1]}, "schedule `cron` has `input=[1]`. Fix: give a dict of the flow's parameters."),
        ({"key": "a b"}, "triggers.a b: a key has 1 to 100 letters, digits, `_` or `-` (did you mean `a_b`?)"),
        ({"key": ""}, "a key has 1 to 100 letters"),
        ({"key": "x" * 101}, "a key has 1 to 100 letters"),
        ({"key": "manual"}, "has a trigger `manual` already. Fix: give each schedule a `key` of its own."),
        ({"jitter": "-5s"}, "triggers.cron.jitter: '-5s' is not a length of time (write `30s`"),
        ({"jitter": -1}, "triggers.cron.jitter: -1 is not a length of time"),
        ({"jitter": "1d"}, "triggers.cron.jitter: 1d is not less than the 1d between two fires (shorten it)"),
        ({"window": 0}, "triggers.cron.window: Input should be greater than datetime.timedelta(0), got 0"),
        (
            {"overlap": "stop"},
            "triggers.cron.overlap: Input should be 'allow', 'skip', 'queue' or 'cancel', got 'stop'",
        ),
        ({"missed": "none"}, "triggers.cron.missed: Input should be 'skip', 'latest' or 'all', got 'none'"),
        ({"paused": "maybe"}, "triggers.cron.paused: Input should be a valid boolean"),
        ({"start": "2026-01-01"}, "triggers.cron.start: 2026-01-01 has no offset to UTC (write an aware datetime"),
        ({"start": "soon"}, "triggers.cron.start: 'soon' is not a point in time"),
        ({"end": datetime(2026, 1, 1)}, "triggers.cron.end: 2026-01-01 00:00:00 has no offset"),  # noqa: DTZ001
        (
            {"start": "2026-02-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"},
            "triggers.cron.end: `end` 2026-01-01 00:00:00+00:00 is not after `start` 2026-02-01 00:00:00+00:00 (swap",
        ),
        (
            {"start": "2026-01-01T00:00:01Z", "end": "2026-01-01T23:00:00Z"},
            "triggers.cron: never fires between `start` 2026-01-01 00:00:01+00:00 and `end`",
        ),
        ({"start": "9999-12-31T12:00:00Z"}, "triggers.cron: never fires between `start`"),
    ],
)
def test_a_wrong_schedule_is_refused_with_its_place_and_leaves_nothing(options, says):
    report = new_flow()
    before = report.manifest
    line = inspect.currentframe().f_lineno + 2  # type: ignore[union-attr]
    with pytest.raises(AuthoringError) as caught:
        schedule(report, Cron("@daily"), **{"input": GOOD, **options})
    assert says in caught.value.message
    assert caught.value.message.startswith(f"{__file__}:{line}: ")
    assert "Fix: " in caught.value.message
    assert report.manifest is before


def test_a_duplicate_key_is_refused():
    plain = plain_flow()
    schedule(plain, Cron("@daily"), key="a")
    with pytest.raises(AuthoringError, match="flow `plain` has a trigger `a` already"):
        schedule(plain, Every("1m"), key="a")


def test_jitter_of_an_interval_stays_below_it():
    with pytest.raises(AuthoringError, match="1m is not less than the 1m between two fires"):
        schedule(plain_flow(), Every("1m"), jitter="1m")
    schedule(plain_flow(), Every("1m"), jitter="59s")
    with pytest.raises(AuthoringError, match="1h is not less than the 1h between two fires"):
        schedule(plain_flow(), Cron("0 7,8 * * *"), jitter="1h")
    schedule(plain_flow(), Cron("0 0 * * MON"), jitter="6d")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda f: schedule(f, "0 7 * * *"),
            'is not a rule for a schedule of flow `plain`. Fix: write `Cron("0 7 * * *")`.',
        ),
        (lambda f: schedule(f, None), "None is not a rule"),
        (lambda f: schedule(f.fn, Cron("@daily")), "`schedule` takes a flow, not <function"),
        (lambda f: flow(schedules=Cron("@daily"))(f.fn), "is not a list. Fix: write `schedules=[…]`."),
        (lambda f: flow(schedules=["@daily"])(f.fn), 'Fix: write `Cron("@daily")`.'),
        (lambda f: flow(schedules=[Every("1m"), Schedule(Every("2m"), key="every")])(f.fn), "has a trigger `every`"),
    ],
)
def test_what_is_no_schedule_is_refused_with_what_to_write(call, says):
    with pytest.raises(AuthoringError) as caught:
        call(plain_flow())
    assert says in caught.value.message
    assert HERE in caught.value.message.partition(": ")[0]


def test_a_schedule_in_a_flow_body_is_refused():
    plain = plain_flow()
    with pytest.raises(AuthoringError, match="`schedule` was called in a flow body"):

        @flow
        def outer() -> None:
            schedule(plain, Cron("@daily"))


def test_a_wrong_rule_in_a_module_is_named_with_its_line(tmp_path):
    module = tmp_path / "timed.py"
    module.write_text("from orchestrator import Cron, flow\n\n\n@flow(schedules=[Cron('61 * * * *')])\ndef f(): ...\n")
    with pytest.raises(DiscoveryError) as caught:
        load_flows([str(module)])
    assert f"{module}:4: The cron expression `61 * * * *` has the minute `61`. Fix: " in caught.value.message


def test_the_names_are_exported():
    assert {"Cron", "Every", "Schedule", "schedule", "CronTrigger", "EveryTrigger"} <= set(orchestrator.__all__)


# ---- in manifests --------------------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["n"],
    "additionalProperties": False,
}
NIGHTLY = {"type": "cron", "expression": "0 7 * * *", "zone": "Europe/Paris", "input": {"n": 1}}


def manifest(**triggers: Any) -> Manifest:
    return Manifest(name="f", steps={}, input_schema=SCHEMA, triggers=copy.deepcopy(triggers))


def problems(**triggers: Any) -> list[str]:
    with pytest.raises(ManifestInvalid) as caught:
        manifest(**triggers)
    return [str(problem) for problem in caught.value.problems]


def test_a_manifest_with_schedules_is_the_same_after_json():
    every = {"type": "every", "interval": "90s", "anchor": "2026-01-01T01:00:00+01:00", "input": {"n": 2}}
    made = manifest(manual={}, nightly=NIGHTLY, often=every)
    again = Manifest.from_json(made.to_json())
    assert again == made
    assert again.hash == made.hash
    assert pickle.loads(pickle.dumps(made)) == made
    assert Manifest.model_validate_json(made.model_dump_json()) == made
    assert list(made.schedules) == ["nightly", "often"]
    assert isinstance(made.schedules["often"], EveryTrigger)
    assert made.schedules["often"].timing().rule == Every("90s", anchor="2026-01-01T00:00:00Z")


def test_a_rule_makes_another_manifest():
    hashes = {
        manifest(nightly=NIGHTLY).hash,
        manifest(nightly={**NIGHTLY, "expression": "1 7 * * *"}).hash,
        manifest(nightly={**NIGHTLY, "zone": "UTC"}).hash,
        manifest(nightly={**NIGHTLY, "paused": True}).hash,
        manifest(daily=NIGHTLY).hash,
        manifest().hash,
    }
    assert len(hashes) == 6


def test_flows_without_schedules_keep_their_hash():
    """Of the release before schedules: a deploy of it must not make a new version of every flow."""
    assert Manifest(name="f", steps={}).hash == "c4db6b37fe1b046490fa8819ddcd3134ddc0461064f3e68d1e8f5f010329d7a5"
    tagged = Manifest(name="f", steps={"a": {"type": "t"}}, triggers={"manual": {}}, tags=["x"])
    assert tagged.hash == "ed7dd78b21d11d838bfe727b07fa995d114a1e9b1a52726fcda838d613bda985"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"zone": "europe/paris"},
            ["triggers.t.zone: There is no time zone `europe/paris` (did you mean `Europe/Paris`?)"],
        ),
        (
            {"expression": "0 25 * * *"},
            [
                "triggers.t.expression: The cron expression `0 25 * * *` has the hour `25` (write 0-23, a range, "
                "a list, `*` or `*/n`)"
            ],
        ),
        (
            {"expression": "0 0 30 2 *"},
            [
                "triggers.t.expression: The cron expression `0 0 30 2 *` never fires: no month of `2` has a day `30` "
                "(change the day, or write `L` for the last day of the month)"
            ],
        ),
        ({"expresion": "x"}, ["triggers.t.expresion: unknown field `expresion` (did you mean `expression`?)"]),
        ({"interval": "1m"}, ["triggers.t.interval: unknown field `interval` (use one of"]),
        ({"type": "crom"}, ["triggers.t.type: unknown type of trigger `crom` (did you mean `cron`?)"]),
        (
            {"type": 7},
            ["triggers.t.type: unknown type of trigger `7` (use one of `cron`, `every`, `manual`, `webhook`)"],
        ),
        ({"input": {"n": "x"}}, ['triggers.t.input.n: "x" is not of type "integer"']),
        ({"input": {"n": 1, "tags": ["a", 2]}}, ['triggers.t.input.tags[1]: 2 is not of type "string"']),
        ({"input": {}}, ["triggers.t.input.n: the flow needs the input `n` (give it in the schedule's `input`: {"]),
        ({"input": {"n": 1, "tag": []}}, ["triggers.t.input.tag: the flow has no input `tag` (did you mean `tags`?)"]),
        ({"input": {"n": 1, "tags": ["a\x00"]}}, ["triggers.t.input.tags[0]: a text with a NUL character cannot be"]),
        ({"jitter": "-1s", "overlap": "x"}, ["triggers.t.jitter: '-1s' is not", "triggers.t.overlap: Input should be"]),
        ({"start": 5}, ["triggers.t.start: 5 is not a point in time (write"]),
        (
            {"zone": "x", "input": {"m": 1}},
            ["triggers.t.zone: There is no", "triggers.t.input.m: the flow has", "triggers.t.input.n: the flow needs"],
        ),
    ],
)
def test_a_wrong_trigger_is_refused_with_its_place_and_fix(change, expected):
    found = problems(t={**NIGHTLY, **change})
    assert [text[: len(start)] for text, start in zip(found, expected, strict=True)] == expected


def test_problems_of_triggers_stand_beside_those_of_steps():
    with pytest.raises(ManifestInvalid) as caught:
        Manifest(name="f", steps={"a": {}}, triggers={"a b": {"type": "every", "interval": "1m", "jitter": "2m"}})
    assert [problem.place for problem in caught.value.problems] == [
        "steps.a.type",
        "triggers.a b",
        "triggers.a b.jitter",
    ]


def test_a_trigger_that_is_no_object_is_refused():
    assert problems(t="0 7 * * *")[0].startswith("triggers.t: Input should be a valid dictionary")
    assert problems(t=None)[0].startswith("triggers.t: Input should be a valid dictionary")


def test_a_trigger_may_have_the_name_of_a_type():
    assert list(manifest(cron=NIGHTLY, manual=NIGHTLY, every={**NIGHTLY}).schedules) == ["cron", "manual", "every"]
    assert problems(cron={**NIGHTLY, "zone": "x"})[0].startswith("triggers.cron.zone: There is no time zone")


# ---- stored definitions and overrides ------------------------------------------------------------------------------


def test_a_stored_definition_is_read_back():
    made = manifest(nightly=NIGHTLY).schedules["nightly"]
    assert schedule_def(json.loads(made.model_dump_json(exclude_defaults=True))) == made
    assert schedule_def(made.model_dump(mode="json")) == made


def test_an_override_keeps_the_options():
    options = {"jitter": "5m", "overlap": "skip", "input": {"n": 1}, "end": "2030-01-01T00:00:00Z"}
    code = manifest(t={**NIGHTLY, **options, "gap": "skip"}).schedules["t"]
    changed = overridden(code, "0 9 * * *", None)
    assert changed == manifest(t={**NIGHTLY, **options, "gap": "skip", "expression": "0 9 * * *"}).schedules["t"]
    assert overridden(code, None, "Asia/Tehran").timing().rule == Cron("0 7 * * *", tz="Asia/Tehran", gap="skip")
    assert overridden(code, None, None) is code


def test_an_interval_may_be_overridden_by_an_expression():
    code = manifest(t={"type": "every", "interval": "1h", "missed": "all", "input": {"n": 1}}).schedules["t"]
    changed = overridden(code, "0 9 * * *", "Asia/Tehran")
    assert changed.timing().rule == Cron("0 9 * * *", tz="Asia/Tehran")
    assert (changed.missed, changed.input) == ("all", {"n": 1})
    assert overridden(code, None, "Asia/Tehran") is code


def test_a_bad_override_is_refused():
    code = manifest(t=NIGHTLY).schedules["t"]
    with pytest.raises(ScheduleInvalid, match="has the hour `25`"):
        overridden(code, "0 25 * * *", None)
    with pytest.raises(ScheduleInvalid, match="There is no time zone `Mars`"):
        overridden(code, None, "Mars")
