"""The source has no door through which data becomes code or SQL."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import stageflow

SOURCE = Path(stageflow.__file__).parent
MODULES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}
SHIPPED = {name: tree for name, tree in MODULES.items() if not name.startswith("testing/")}
EXECUTING = {"execute", "executemany", "executescript", "copy", "read", "write", "row", "rows", "run", "run_many"}


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module


def _called(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
                yield name, node


def test_nothing_reads_bytes_into_objects() -> None:
    """No pickle, marshal, shelve, dill or yaml: what is stored or sent is JSON, read by its contract."""
    unsafe = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "jsonpickle"}
    assert [(name, each) for name, tree in MODULES.items() for each in _imports(tree) if each.split(".")[0] in unsafe] == []


def test_nothing_runs_text_as_code() -> None:
    """No eval, exec or compile of text; the wrapper of a checked function is made of names of its own code, never of data."""
    found = [
        (name, node.lineno)
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"eval", "exec", "compile", "__import__"}
    ]
    assert {name for name, _ in found} == {"contracts/enforce.py"}


def test_modules_are_imported_by_name_where_an_operator_or_the_code_named_them_only() -> None:
    """``--app`` is an operator's word; a child imports the module of a task that is registered. No stored text names one."""
    found = {name for name, tree in SHIPPED.items() for called, _ in _called(tree) if called == "import_module"}
    assert found == {"cli/loading.py", "worker/children.py"}


def test_no_command_goes_through_a_shell() -> None:
    """No ``shell=True``, ``os.system`` or ``os.popen``; the library itself starts no command at all."""
    shells = [
        (name, node.lineno)
        for name, tree in MODULES.items()
        for called, node in _called(tree)
        if called in {"system", "popen", "getoutput", "getstatusoutput"} or any(word.arg == "shell" for word in node.keywords)
    ]
    assert shells == []
    assert [name for name, tree in SHIPPED.items() if "subprocess" in set(_imports(tree))] == []


def _is_literal(node: ast.expr, literals: set[str]) -> bool:
    match node:
        case ast.Constant(value=str()):
            return True
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return _is_literal(left, literals) and _is_literal(right, literals)
        case ast.IfExp(body=body, orelse=orelse):
            return _is_literal(body, literals) and _is_literal(orelse, literals)
        case ast.Name(id=name):
            return name in literals
        case _:
            return False


def _pieces_of_sql(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield f-strings, ``%`` and ``.format`` whose text begins as SQL does."""
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                pass
            case ast.BinOp(op=ast.Mod(), left=ast.Constant(value=str(text))):
                pass
            case ast.Call(func=ast.Attribute(attr="format", value=ast.Constant(value=str(text)))):
                pass
            case _:
                continue
        if re.match(
            r"\s*(select|insert into|update \w+ set|delete from|with \w+ as|create|drop|alter|set|listen|pragma)\b", text
        ):
            yield node


def test_no_sql_is_built_from_values() -> None:
    """Identifiers go through ``psycopg.sql``, values through parameters; the few f-strings in SQLite are listed here."""
    allowed = {
        # PRAGMA takes no parameter; both are whole numbers of our own.
        "f'pragma busy_timeout = {",
        "f'pragma user_version = {",
    }
    found = [
        (name, ast.unparse(node))
        for name, tree in SHIPPED.items()
        if name.startswith("backends/")
        for node in _pieces_of_sql(tree)
    ]
    assert [each for each in found if not any(each[1].startswith(start) for start in allowed)] == []


def test_sql_functions_run_no_text_that_they_made() -> None:
    """No dynamic SQL and no SECURITY DEFINER in PostgreSQL's functions: nobody gains a right by calling one."""
    for path in (SOURCE / "backends/postgres/sql/functions").glob("*.sql"):
        text = re.sub(r"--.*", "", path.read_text()).lower()
        assert "security definer" not in text, path.name
        assert re.search(r"\bexecute\b(?!\s+(function|procedure)\b)", text) is None, path.name
