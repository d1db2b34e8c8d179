"""The protocol as a model holds in every history, and each of its rules is needed."""

import pytest

from tests.models import spin
from tests.support.cases import thinned

WRONG = [*spin.MUTANTS, *spin.REACHED]
_WHY = spin.missing()
pytestmark = pytest.mark.skipif(_WHY is not None, reason=_WHY or "")


@pytest.mark.slow
@pytest.mark.parametrize("check", spin.RIGHT, ids=lambda check: check.name)
def test_the_protocol_holds(check: spin.Check) -> None:
    """Safety over every history with the faults that the flags allow; ending over the fair ones."""
    assert spin.run(check).holds


@pytest.mark.parametrize("check", thinned(WRONG, *WRONG[::5]), ids=lambda check: check.name)
def test_the_model_can_fail(check: spin.Check) -> None:
    """Without one of its rules the protocol breaks what that rule is for; and nothing holds just because it never
    happens."""
    assert not spin.run(check).holds


@pytest.mark.slow
@pytest.mark.parametrize("check", spin.FURTHER, ids=lambda check: check.name)
def test_the_model_of_waits_can_fail_further(check: spin.Check) -> None:
    """And gets everywhere."""
    assert not spin.run(check).holds


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("check", [*spin.DEEP, spin.SURVIVOR], ids=lambda check: check.name)
def test_the_protocol_holds_with_more_faults(check: spin.Check) -> None:
    """The same, in minutes."""
    assert spin.run(check).holds
