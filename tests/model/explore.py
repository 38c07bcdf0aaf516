"""The exploration: every state within bounds, breadth first, and whether the job can still end from each."""

from array import array
from dataclasses import dataclass
from time import perf_counter

from tests.model.promises import require_fair, require_sound
from tests.model.state import ENDED, Bounds, BrokenError, Label, State, initial, normal
from tests.model.steps import HELPFUL, open_width, successors
from tests.model.symmetry import canonical


@dataclass(frozen=True)
class Trace:
    """The shortest way to a broken promise."""

    promise: str
    steps: tuple[Label, ...]

    def __str__(self) -> str:
        told = "; ".join(describe(step) for step in self.steps)
        return f"{self.promise}, after {len(self.steps)} steps: {told}"


@dataclass(frozen=True)
class Exploration:
    """What was seen.

    Attributes:
        broken: The first broken promise; nothing was explored beyond it.
    """

    bounds: Bounds
    states: int
    transitions: int
    ends: int
    seconds: float
    broken: Trace | None


class Explorer:
    """The graph of a model, kept as numbers: states by their number, steps as pairs of them."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        start = canonical(initial(bounds), bounds)
        self.states: list[State] = [start]
        self.parents = array("q", [-1])
        self._numbers: dict[State, int] = {start: 0}
        self._helpful = array("I")
        self._offsets = array("Q", [0])
        self._ends: list[int] = []
        self.transitions = 0

    def run(self) -> Exploration:
        """Explore everything, then look for states from which the job cannot end."""
        begun = perf_counter()
        place = 0
        broken = None
        while place < len(self.states) and broken is None:
            broken = self._expand(place)
            place += 1
        if broken is None:
            broken = self._stuck()
        return Exploration(self.bounds, len(self.states), self.transitions, len(self._ends), perf_counter() - begun, broken)

    def _expand(self, place: int) -> Trace | None:
        state = self.states[place]
        try:
            for label, raw in successors(state, self.bounds):
                self.transitions += 1
                if raw is not state:
                    self._enter(place, label, raw)
        except BrokenError as error:
            labels, last = self._steps_to(place)
            return Trace(str(error), (*labels, self._breaking(last)))
        self._offsets.append(len(self._helpful))
        if state.job.status in ENDED and not open_width(state):
            self._ends.append(place)
        return None

    def _enter(self, place: int, label: Label, raw: State) -> None:
        """Note a step and where it leads."""
        require_fair(self.states[place], label, raw)
        after = canonical(raw, self.bounds)
        number = self._numbers.get(after)
        if number is None:
            number = len(self.states)
            self._numbers[after] = number
            self.states.append(after)
            self.parents.append(place)
            require_sound(after, self.bounds)
        if label[0] in HELPFUL:
            self._helpful.append(number)

    def _breaking(self, state: State) -> Label:
        """Return the step from a state that breaks a promise."""
        try:
            for label, after in successors(state, self.bounds):
                try:
                    require_fair(state, label, after)
                    require_sound(after, self.bounds)
                except BrokenError:
                    return label
        except BrokenError:
            pass
        return ("a step that the model refuses", -1)

    def _steps_to(self, place: int) -> tuple[tuple[Label, ...], State]:
        """Return the shortest way to a state, on which a worker keeps its name from step to step, and its end."""
        labels = []
        state = normal(initial(self.bounds))
        for target in self.way_to(place)[1:]:
            label, state = next(step for step in successors(state, self.bounds) if canonical(step[1], self.bounds) == target)
            labels.append(label)
        return tuple(labels), state

    def way_to(self, place: int) -> list[State]:
        """Return the states on the shortest way to a state, which is the last of them."""
        way = [place]
        while self.parents[way[-1]] >= 0:
            way.append(self.parents[way[-1]])
        return [self.states[each] for each in reversed(way)]

    def _stuck(self) -> Trace | None:
        """Go back from the ends over what goes on by itself; what is not reached is stuck."""
        count = len(self.states)
        can_end = bytearray(count)
        for place in self._ends:
            can_end[place] = 1
        helpful, offsets = self._helpful, self._offsets
        changed = True
        while changed:
            changed = False
            for place in range(count - 1, -1, -1):
                if not can_end[place] and any(can_end[number] for number in helpful[offsets[place] : offsets[place + 1]]):
                    can_end[place] = 1
                    changed = True
        stuck = can_end.find(0)
        if stuck < 0:
            return None
        message = f"the job cannot end any more ({count - sum(can_end)} of {count} states are stuck)"
        return Trace(message, self._steps_to(stuck)[0])


def describe(label: Label) -> str:
    """Return a step in words."""
    name, worker, *rest = label
    who = "" if worker == -1 else f" by {'ab'[int(worker)]}"
    return f"{name}{who}{' ' if rest else ''}{' '.join(str(each) for each in rest)}"


def explore(bounds: Bounds) -> Exploration:
    """Explore a model within bounds."""
    return Explorer(bounds).run()
