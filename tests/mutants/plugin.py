"""A pytest plugin that puts one mutant in the place of the source, before anything of the store is imported.

``STAGEFLOW_MUTANT='complete_tasks: token' pytest -p tests.mutants.plugin …``. A migration installs the mutated function as if it
were the package's; a mutated module is compiled from the changed text. No file is touched.
"""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import LiteralString, cast

from stageflow.backends.postgres import sql_text
from tests.mutants.lists import MUTANTS
from tests.mutants.mutant import Mutant

VARIABLE = "STAGEFLOW_MUTANT"


class _MutatedLoader(SourceFileLoader):
    """Compiles a module from its changed text."""

    mutant: Mutant

    def get_code(self, fullname: str) -> object:
        text = self.mutant.mutated(Path(self.path).read_text(encoding="utf-8"))
        return compile(text, self.path, "exec", dont_inherit=True)


class _MutatedFinder(MetaPathFinder):
    """Finds the one module that is mutated."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._module = "stageflow." + mutant.file.removesuffix(".py").replace("/", ".")

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """Return the module with our loader; leave all others to the rest."""
        if fullname != self._module:
            return None
        spec = PathFinder.find_spec(fullname, cast("list[str]", path))
        assert spec is not None
        assert spec.origin is not None
        loader = _MutatedLoader(fullname, spec.origin)
        loader.mutant = self._mutant
        spec.loader = loader
        return spec


def install(mutant: Mutant) -> None:
    """Put the mutant in place."""
    mutant.check()
    if mutant.file.endswith(".py"):
        sys.meta_path.insert(0, _MutatedFinder(mutant))
        return
    original = sql_text._read  # noqa: SLF001  the one place through which SQL files are read

    def read(folder: str, name: str) -> LiteralString:
        text = original(folder, name)
        return cast("LiteralString", mutant.mutated(text)) if mutant.file.endswith(f"sql/{folder}/{name}") else text

    sql_text._read = read  # noqa: SLF001
    sql_text.named_texts.cache_clear()


if VARIABLE in os.environ:
    install(MUTANTS[os.environ[VARIABLE]])
