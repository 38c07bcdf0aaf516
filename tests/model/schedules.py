"""Schedules for the real stores: one for each kind of step in each kind of state, and walks by dice."""

from functools import cache
from random import Random
from typing import Final

from stageflow.testing.conformance.builders import MovableStore
from tests.model.explore import Explorer
from tests.model.state import Bounds, Label, State, status_for
from tests.model.steps import successors
from tests.model.symmetry import canonical
from tests.model.twin import Sessions, Twin

RARE: Final = frozenset(
    {"heartbeat", "lose", "cancel", "pause", "crash", "deliver", "cancel, missing", "recover", "recover control"}
)
"""What dice take less often, so that schedules get somewhere."""

Signature = tuple[object, ...]


def signature_of(before: State, label: Label, after: State) -> Signature:
    """Return what is special about a step: what it is, where the job and the stage stand, and what it led to."""
    name, worker, *_ = label
    held = before.workers[int(worker)] if int(worker) >= 0 else None
    here = () if held is None else (held.kind, held.token > 0, status_for(before.job, held.run))
    stages = tuple((stage.status, stage.halted, stage.control and stage.control[:2]) for stage in after.stages)
    return (name, here, before.job[:2], after.job.status, stages)


@cache
def cover(bounds: Bounds) -> list[list[State]]:
    """Return the shortest ways to a step of every kind, as states of the model."""
    explorer = Explorer(bounds)
    assert explorer.run().broken is None
    seen: set[Signature] = set()
    ways: list[list[State]] = []
    for place, state in enumerate(explorer.states):
        for label, after in successors(state, bounds):
            signature = signature_of(state, label, after)
            if label[0] != "repair, apart" and signature not in seen:
                seen.add(signature)
                ways.append([*explorer.way_to(place), canonical(after, bounds)])
    return ways


def follow(store: MovableStore, sessions: Sessions, bounds: Bounds, way: list[State], name: str) -> int:
    """Take a way of the model in a real store; answers how many steps that were."""
    twin = Twin(store, sessions, bounds, name)
    taken = 0
    for target in way[1:]:
        steps = [step for step in successors(twin.state, bounds) if canonical(step[1], bounds) == target]
        assert steps, "names matter: what is done to a state cannot be done to one that is like it"
        steps = [step for step in steps if twin.can_take(step[0])]
        if not steps:
            break
        twin.take(*steps[0])
        taken += 1
    twin.close()
    return taken


def walk(store: MovableStore, sessions: Sessions, bounds: Bounds, seed: int, steps: int) -> int:
    """Take a random walk; the same seed is the same walk."""
    dice = Random(seed)  # noqa: S311  a test's dice
    twin = Twin(store, sessions, bounds, f"walk{seed}")
    taken = 0
    while taken < steps and (choices := twin.steps()):
        weights = [1 if label[0] in RARE else 6 for label, _ in choices]
        twin.take(*dice.choices(choices, weights)[0])
        taken += 1
    twin.close()
    return taken
