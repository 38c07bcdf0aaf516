"""One mutant: a guard, a lock, a fence or a counter that is left out of a store's source."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import stageflow

SOURCE: Final = Path(stageflow.__file__).parent


class MutantError(Exception):
    """The text that a mutant replaces is not in the source exactly once; write the mutant anew for the source as it is."""


@dataclass(frozen=True)
class Mutant:
    """A change of one place of the source that a test must notice.

    Attributes:
        name: What is left out, in words.
        file: Where, as a path below the package.
        text: What is replaced; it is there exactly once.
        replacement: By what.
        equivalent: Why nobody can notice; empty where a test must.
    """

    name: str
    file: str
    text: str
    replacement: str = ""
    equivalent: str = ""

    @property
    def title(self) -> str:
        """The name that is the mutant's alone."""
        return f"{Path(self.file).stem}: {self.name}"

    def mutated(self, source: str) -> str:
        """Return the source with the change.

        Raises:
            MutantError: The text is not there, or more than once.
        """
        if (count := source.count(self.text)) != 1:
            msg = f"{self.title}: its text occurs {count} times in {self.file}; write the mutant anew for the source as it is"
            raise MutantError(msg)
        return source.replace(self.text, self.replacement)

    def check(self) -> None:
        """Require that the change can be made to the source as it is."""
        self.mutated((SOURCE / self.file).read_text(encoding="utf-8"))
