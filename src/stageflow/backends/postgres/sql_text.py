"""The SQL files of this package, as text; as literal as a string in its source."""

from functools import cache
from importlib.resources import files
from typing import LiteralString


@cache
def query(name: str) -> LiteralString:
    """Return the statement in ``sql/queries/<name>.sql``; its parameters are ``$1``, ``$2``, …."""
    return _read("queries", f"{name}.sql")


@cache
def named_texts(folder: str) -> tuple[tuple[str, LiteralString], ...]:
    """Return name and text of all SQL files of a folder, in name order."""
    names = sorted(path.name for path in files(__package__).joinpath("sql", folder).iterdir() if path.name.endswith(".sql"))
    return tuple((name.removesuffix(".sql"), _read(folder, name)) for name in names)


def _read(folder: str, name: str) -> LiteralString:
    return files(__package__).joinpath("sql", folder, name).read_text(encoding="utf-8")
