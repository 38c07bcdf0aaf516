"""Mutants of the embedded store's Python."""

from typing import Final

from tests.mutants.mutant import Mutant

SQLITE: Final[list[Mutant]] = []
