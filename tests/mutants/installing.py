"""Puts one mutant in the place of the source, within this process; no file is touched."""

import sys
from collections.abc import Iterator
from importlib import import_module
from types import CodeType, FunctionType, ModuleType

from stageflow.backends.postgres import sql_text
from tests.mutants.mutant import SOURCE, Mutant, MutantError


def install(mutant: Mutant) -> None:
    """Let the next migration install a mutated function; change a mutated module's functions and constants at once."""
    mutant.check()
    if mutant.file.endswith(".py"):
        _change_module(mutant)
    else:
        _change_sql(mutant)


def _change_sql(mutant: Mutant) -> None:
    original = sql_text._read  # noqa: SLF001  the one place through which SQL files are read

    def read(folder: str, name: str) -> str:
        text = original(folder, name)
        return mutant.mutated(text) if mutant.file.endswith(f"sql/{folder}/{name}") else text

    sql_text._read = read  # noqa: SLF001
    sql_text.named_texts.cache_clear()


def _change_module(mutant: Mutant) -> None:
    """Change the code of the functions that are there: others have imported them already."""
    path = SOURCE / mutant.file
    name = "stageflow." + mutant.file.removesuffix(".py").replace("/", ".")
    module = import_module(name)
    changed = ModuleType(name)
    sys.modules[name] = changed  # what its classes look up while they are made
    exec(compile(mutant.mutated(path.read_text(encoding="utf-8")), path, "exec"), changed.__dict__)  # noqa: S102  our own text
    sys.modules[name] = module
    if not sum([*_change_codes(module, changed, name), *_change_texts(module, changed)]):
        msg = f"{mutant.title}: neither a function nor a constant of {name} differs; write the mutant anew"
        raise MutantError(msg)


def _change_codes(module: ModuleType, changed: ModuleType, name: str) -> Iterator[bool]:
    others = dict(_functions(changed.__dict__, name))
    for place, function in _functions(module.__dict__, name):
        other = others[place].__code__
        yield _plain(other) != _plain(function.__code__)
        function.__code__ = other


def _plain(code: CodeType) -> tuple[object, ...]:
    """Return what a code does, without the lines on which it stands."""
    constants = [_plain(item) if isinstance(item, CodeType) else item for item in code.co_consts]
    return (code.co_code, constants, code.co_names, code.co_varnames)


def _change_texts(module: ModuleType, changed: ModuleType) -> Iterator[bool]:
    for name, value in changed.__dict__.items():
        if isinstance(value, str) and not name.startswith("__"):
            yield module.__dict__[name] != value
            setattr(module, name, value)


def _functions(names: dict[str, object], module: str) -> Iterator[tuple[str, FunctionType]]:
    """Yield the functions that a module defines, those of its classes too, by where they are."""
    for name, value in names.items():
        match value:
            case FunctionType() if value.__module__ == module:
                yield name, value
            case type() if value.__module__ == module:
                for inner, member in vars(value).items():
                    function = member.fget if isinstance(member, property) else member
                    if isinstance(function, FunctionType) and function.__module__ == module:
                        yield f"{name}.{inner}", function
