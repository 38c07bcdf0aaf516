"""All mutants, by title."""

from typing import Final

from tests.mutants.postgres import POSTGRES
from tests.mutants.sqlite import SQLITE

MUTANTS: Final = {mutant.title: mutant for mutant in (*POSTGRES, *SQLITE)}
