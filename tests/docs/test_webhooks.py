"""Each entry of the cookbook takes a delivery that its publisher's package, its vector or openssl signed."""

import runpy
from pathlib import Path

import pytest

from orchestrator import Webhook
from orchestrator.authoring.webhook import _definition
from orchestrator.core.manifest import Manifest
from orchestrator.engine.flows import register
from orchestrator.engine.webhooks.gatekeeper import Gatekeeper
from orchestrator.engine.webhooks.receive import receive
from orchestrator.webhooks import schemes
from orchestrator.webhooks.presets import PRESETS, UNLISTED
from tests.docs import pages
from tests.support.deliveries import PACKAGES, PUBLISHED, SAMPLES
from tests.support.factories import Lab, call

PAGE = "docs/webhooks.md"
HOOKS = {
    str(block.name): block.text for block in pages.blocks("python", page=PAGE) if str(block.name).startswith("hook_")
}
ADDRESSES = {
    "github": "140.82.112.9",
    "bitbucket": "104.192.136.9",
    "atlassian": "104.192.136.9",
    "square": "54.245.1.154",
}


def hook_of(name: str, folder: Path) -> Webhook:
    file = folder / name
    file.write_text(HOOKS[name])
    found = runpy.run_path(str(file))["hook"]
    assert isinstance(found, Webhook)
    return found


@pytest.mark.parametrize("name", HOOKS)
def test_an_entry_takes_a_delivery_of_its_publisher(name: str, lab: Lab, tmp_path: Path) -> None:
    hook = hook_of(name, tmp_path)
    sample = SAMPLES[hook.scheme]()
    definition = _definition(hook, name)
    if "url" in definition:  # the samples were signed for another one
        definition["url"] = sample.url
    manifest = Manifest(name="cook", steps={"work": call()}, triggers={hook.slug: definition})
    register.deploy(lab.ledger, manifest)
    lab.forward(sample.at - lab.now())
    keeper = Gatekeeper({hook.secret: sample.secret, hook.previous_secret: "another"}.__getitem__)
    request = sample.request(ADDRESSES.get(hook.scheme, "192.0.2.1"))
    received = receive(lab.ledger, keeper, hook.slug, request)
    assert (received.outcome, received.error) == ("started", None)
    again = receive(lab.ledger, keeper, hook.slug, request)
    assert (again.outcome, again.run_id) == ("seen", received.run_id)


def test_every_scheme_has_an_entry(tmp_path: Path) -> None:
    found = {hook_of(name, tmp_path).scheme for name in HOOKS}
    assert found == {*schemes.BUILT_IN, schemes.CUSTOM}


def test_what_is_unverified_is_said_to_be(tmp_path: Path) -> None:
    """In the table, and at its entry."""
    published, packages, unverified, own = (set(pages.code(row[1])) for row in pages.table(_publishers()))
    assert published == {sample.scheme for sample in PUBLISHED}
    assert packages == set(PACKAGES)
    assert own == {"generic", schemes.CUSTOM}
    assert unverified == {*schemes.BUILT_IN} - published - packages - own
    for name in HOOKS:
        scheme = hook_of(name, tmp_path).scheme
        entry = pages.text_of(PAGE).partition(f"# {name}")[2].partition("\n### ")[0]
        assert ("Unverified: " in entry) == (scheme in unverified), scheme
        assert all(f"the package `{PACKAGES[one]}`" in entry for one in {scheme} & packages)


def _publishers() -> str:
    return pages.section(PAGE, "The publishers")


def test_the_presets_are_named_with_their_day() -> None:
    text = pages.section(PAGE, "Addresses")
    for name, preset in PRESETS.items():
        assert f"`{name}`" in text
        assert name == "local" or str(preset.taken) in text
    assert [name for name in UNLISTED if name.title() not in text] == []
