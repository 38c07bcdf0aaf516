"""Several leases carried out in step: what they ask of the store at the same time goes in one transaction."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from typing import Final

from stageflow.contracts.advancement import StageAdvancementResult
from stageflow.contracts.lease import Lease, TaskCompletionResult
from stageflow.contracts.plan import PlanAnswer
from stageflow.engine.calls import Answer, Asker, Call, Steps, size_of, token_of
from stageflow.engine.hooks import let_interrupt_pass
from stageflow.errors import StoreUnreachableError
from stageflow.worker.board import LeaseBoard

MOST_CHARACTERS: Final = 4_000_000
"""Of what several calls send in one transaction."""
_PATIENCE: Final = 5
"""How much longer all may take than one."""


class _State(Enum):
    WAITING = auto()
    """For its turn in the slot: it has not begun, or has its answer."""
    RUNNING = auto()
    ASKING = auto()
    """For others, with whom it is to ask."""
    ASKED = auto()
    ENDED = auto()


class _Member:
    """One lease of a bundle, with the verbs that follow from it.

    Attributes:
        following: The lease that is carried out next, in the hands of nobody yet: its own, or what an answer handed over.
    """

    def __init__(self, lease: Lease, errand: Steps[None]) -> None:
        self.lease: Final = lease
        self.errand: Final = errand
        self.state = _State.WAITING
        self.following: Lease | None = lease
        self.begun = False
        self.call: Call | None = None
        self.answer: Answer | None = None
        self.error: Exception | None = None

    def step(self) -> None:
        """Run on to the next call; raises what the errand raises."""
        answer, error, self.answer, self.error = self.answer, self.error, None, None
        try:
            self.call = self.errand.send(answer) if error is None else self.errand.throw(error)
        except StopIteration:
            self.state = _State.ENDED
        except BaseException:
            self.state = _State.ENDED
            raise
        else:
            self.state = _State.ASKING

    def take(self, answer: Answer) -> Lease | None:
        """Take the answer to the call, and return the lease that it hands over."""
        self.answer = answer
        match answer:
            case PlanAnswer(lease=lease):
                self.following = lease
            case TaskCompletionResult(advance=lease):
                self.following = lease
            case StageAdvancementResult(plan=lease):
                self.following = lease
            case _:
                self.following = None
        return self.following

    def give_up(self) -> Lease | None:
        """Return the lease that would be carried out next, and do without it."""
        lease, self.following = self.following, None
        if not self.begun:
            self.state = _State.ENDED
        elif lease is not None:
            match self.answer:
                case PlanAnswer():
                    self.answer = self.answer.model_copy(update={"lease": None})
                case TaskCompletionResult():
                    self.answer = self.answer.model_copy(update={"advance": None})
                case StageAdvancementResult():
                    self.answer = self.answer.model_copy(update={"plan": None})
        return lease


class Bundle:
    """Leases in the hands of one slot.

    The slot runs one after the other to its next call; when all of them ask, their calls of one kind go together. No job waits
    for another's slow code: :meth:`relieve`, called by another thread, asks what is to be asked, and gives back what has not
    begun. The heartbeat keeps all of them from the start, and what is handed over from the answer on.
    """

    def __init__(
        self,
        work: Sequence[tuple[Lease, Steps[None]]],
        asker: Asker,
        board: LeaseBoard,
        give_back: Callable[[list[Lease]], None],
    ) -> None:
        self._members: Final = [_Member(lease, errand) for lease, errand in work]
        self._asker = asker
        self._board = board
        self._give_back = give_back
        self._changed: Final = threading.Condition()
        self._started: Final = time.monotonic()
        self._since = self._started

    def run(self) -> None:
        """Carry all of them out.

        Raises:
            BaseException: What the errand of one raised, after the others have ended; a group of them, where it was several.
        """
        errors: list[BaseException] = []
        for member in self._members:
            if member.following is not None:
                self._board.keep(member.following)
        try:
            while True:
                following = self._next()
                if following is not None:
                    self._step(following, errors)
                elif not self._ask() and not self._goes_on():
                    break
        finally:
            self._clear()
        if errors and all(error is errors[0] for error in errors):
            raise errors[0]
        if errors:
            msg = f"{len(errors)} leases of a bundle of {len(self._members)} failed"
            raise BaseExceptionGroup(msg, errors)

    def relieve(self, longer_than_seconds: float) -> None:
        """Where one runs longer than that, ask for those that wait for it, and give back what they would begin."""
        with self._changed:
            if not self._is_slow(longer_than_seconds):
                return
        self._ask()
        self._let_go(longer_than_seconds)

    @property
    def begun(self) -> list[Lease]:
        """The leases that were carried out, not given back."""
        return [member.lease for member in self._members if member.begun]

    def _is_slow(self, longer_than_seconds: float) -> bool:
        """Whether one runs for longer than that, or all of them together for much longer, and one does still."""
        now = time.monotonic()
        slow = now - self._since > longer_than_seconds or now - self._started > _PATIENCE * longer_than_seconds
        return slow and any(member.state is _State.RUNNING for member in self._members)

    def _next(self) -> _Member | None:
        """Return who is to run; ``None`` where nobody waits for the slot."""
        if self._board.draining.is_set():
            self._let_go(None)
        with self._changed:
            for member in self._members:
                if member.state is _State.WAITING:
                    self._begin(member)
                    return member
        return None

    def _begin(self, member: _Member) -> None:
        if member.call is not None:
            self._board.note_answer(token_of(member.call), taken=True)
        member.state, member.begun, self._since = _State.RUNNING, True, time.monotonic()

    def _step(self, member: _Member, errors: list[BaseException]) -> None:
        begins, member.following = member.following, None  # before others may ask for it
        try:
            member.step()
        except BaseException as error:  # noqa: BLE001  raised when the others have ended
            let_interrupt_pass(error)
            errors.append(error)
            if isinstance(error, StoreUnreachableError):
                self._leave_all()
        if begins is not None and self._board.drop_unbegun(begins):
            self._give_back([begins])

    def _leave_all(self) -> None:
        """Begin nothing more: each would wait as long for a store that is away. What is left is recovered."""
        with self._changed:
            for member in self._members:
                if member.state is _State.WAITING:
                    member.state = _State.ENDED

    def _ask(self) -> bool:
        """Ask what is to be asked now; ``False`` where that was nothing."""
        with self._changed:
            asking = [member for member in self._members if member.state is _State.ASKING]
            for member in asking:
                member.state = _State.ASKED
        if not asking:
            return False
        away: Exception | None = None
        try:
            for together in _by_kind(asking):
                if away is None:
                    self._ask_together(together)
                    away = _trouble_of(together)
                else:
                    _fail(together, away)
        finally:
            with self._changed:
                for member in asking:
                    member.state = _State.WAITING
                self._changed.notify_all()
        return True

    def _ask_together(self, members: list[_Member], *, again: bool = True) -> None:
        calls = [member.call for member in members if member.call is not None]
        try:
            answers = self._asker.ask(calls)
        except StoreUnreachableError as error:
            # Whether it was written is not known; the answer to the same call tells. Else all would wait for their leases' end.
            if again:
                self._ask_together(members, again=False)
            else:
                _fail(members, error)
        except Exception as error:  # noqa: BLE001  each verb decides what an error of the store means
            if len(members) == 1:
                _fail(members, error)
            else:  # nothing was written because of one of them
                self._ask_singly(members)
        else:
            for member, call, answer in zip(members, calls, answers, strict=True):
                self._board.note_answer(token_of(call), taken=False)
                lease = member.take(answer)
                if lease is not None:
                    self._board.keep(lease)

    def _ask_singly(self, members: list[_Member]) -> None:
        for place, member in enumerate(members):
            self._ask_together([member])
            away = _trouble_of([member])
            if away is not None:
                _fail(members[place:], away)
                break

    def _let_go(self, longer_than_seconds: float | None) -> None:
        """Give back what waits beside one that runs for longer than that; without a time, what has not begun."""
        with self._changed:
            if longer_than_seconds is not None and not self._is_slow(longer_than_seconds):
                return
            waiting = [member for member in self._members if member.state is _State.WAITING]
            given_up = [member.give_up() for member in waiting if longer_than_seconds is not None or not member.begun]
        leases = [lease for lease in given_up if lease is not None]
        for lease in leases:
            self._board.drop(lease)
        if leases:
            self._give_back(leases)

    def _nobody_asks(self) -> bool:
        return all(member.state is not _State.ASKED for member in self._members)

    def _goes_on(self) -> bool:
        """Wait for what another thread asks just now, and return whether anything is left to do."""
        with self._changed:
            self._changed.wait_for(self._nobody_asks)
            return any(member.state is not _State.ENDED for member in self._members)

    def _clear(self) -> None:
        with self._changed:
            self._changed.wait_for(self._nobody_asks)
            for member in self._members:
                member.state = _State.ENDED
        for member in self._members:
            member.errand.close()
            if member.following is not None:
                self._board.drop(member.following)


def _trouble_of(members: list[_Member]) -> Exception | None:
    """Return the error of a store that is away, which others need not wait for too."""
    return next((member.error for member in members if isinstance(member.error, StoreUnreachableError)), None)


def _fail(members: list[_Member], error: Exception) -> None:
    for member in members:
        member.error = error


def _by_kind(members: list[_Member]) -> Iterator[list[_Member]]:
    """Yield those whose calls go together: of one kind, and not too much at a time."""
    kinds: dict[type[object], list[_Member]] = {}
    for member in members:
        kinds.setdefault(type(member.call), []).append(member)
    for same in kinds.values():
        together: list[_Member] = []
        size = 0
        for member in same:
            assert member.call is not None  # noqa: S101  it is asking
            size += size_of(member.call)
            if together and size > MOST_CHARACTERS:
                yield together
                together, size = [], size_of(member.call)
            together.append(member)
        yield together
