"""The model of the protocol keeps every promise in every state within bounds, and each way to break the protocol is seen."""

import pytest

from tests.model.configurations import BROKEN, FULL, SMALL
from tests.model.explore import explore
from tests.model.state import Bounds, Variant


@pytest.mark.parametrize("bounds", SMALL.values(), ids=SMALL)
def test_every_state_within_small_bounds_is_sound_and_can_end(bounds: Bounds) -> None:
    """The invariants hold in all of them, and the job ends from each by what goes on by itself."""
    found = explore(bounds)
    assert found.broken is None
    assert found.ends
    assert found.states > 100


@pytest.mark.parametrize("variant", [variant for variant in Variant if variant is not Variant.SOUND])
def test_each_broken_variant_is_caught(variant: Variant, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that would not notice the traps of real systems would prove nothing."""
    found = explore(BROKEN[variant])
    assert found.broken is not None
    assert found.broken.steps
    with capsys.disabled():
        print(f"\n{variant}: {found.broken}")  # noqa: T201  the trace is what a reader of the test wants


@pytest.mark.parametrize("variant", [variant for variant in Variant if variant is not Variant.SOUND])
def test_nothing_is_caught_where_nothing_is_broken(variant: Variant) -> None:
    """What catches a variant is its switch, not its bounds."""
    assert explore(BROKEN[variant]._replace(variant=Variant.SOUND)).broken is None


def test_the_full_bounds_have_what_they_promise() -> None:
    """One configuration alone has 4 tasks, 2 workers, 2 crashes, a pause, a retry and a repair."""
    whole = FULL["whole"]
    assert whole.tasks[0] >= 4
    assert (whole.workers, whole.crashes, whole.pauses, whole.retries, whole.repairs) == (2, 2, 1, 1, 1)
