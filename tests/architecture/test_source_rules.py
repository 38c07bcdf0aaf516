"""The source keeps the rules that no linter knows."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stageflow

SOURCE = Path(stageflow.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
SHIPPED = [path for path in MODULES if "testing" not in path.relative_to(SOURCE).parts]


def _trees(paths: list[Path]) -> Iterator[tuple[Path, ast.Module]]:
    for path in paths:
        yield path, ast.parse(path.read_text())


def _calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def test_nothing_probes_for_attributes() -> None:
    """No hasattr and no getattr with a default: a missing attribute is a bug that must show."""
    found = [f"{path}:{call.lineno}" for path, tree in _trees(SHIPPED) for call in _calls(tree, "hasattr")]
    found += [
        f"{path}:{call.lineno}" for path, tree in _trees(SHIPPED) for call in _calls(tree, "getattr") if len(call.args) > 2
    ]
    assert found == []


def test_no_exception_is_swallowed() -> None:
    """No handler of a broad exception has an empty body: what went wrong is raised, recorded or told."""
    found = [
        f"{path}:{node.lineno}"
        for path, tree in _trees(SHIPPED)
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
        and all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)
    ]
    assert found == []


def test_no_model_is_built_without_validation() -> None:
    """model_construct would let a wrong value across a boundary."""
    found = [str(path) for path in SHIPPED if ".model_construct(" in path.read_text()]
    assert found == []


def test_nothing_falls_back_to_a_default() -> None:
    """No .get(key, default): what is missing from a contract or a row is an error, not a guess."""
    allowed = {
        "task_rows.get(stage_id, [])",  # a stage without results has none
        "vars(controller_class).get('__orig_bases__', controller_class.__bases__)",  # as typing itself reads bases
    }
    found = {
        ast.unparse(node)
        for _, tree in _trees(SHIPPED)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "get"
        and len(node.args) == 2
    }
    assert {call for call in found if "registry.get(" not in call} == allowed


def test_no_function_takes_or_returns_a_dict_or_a_model() -> None:
    """Every value has one type: nobody has to ask which of two shapes came."""
    shapes = re.compile(r"dict|Mapping|JsonObject")
    found = []
    for path, tree in _trees(SHIPPED):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                hints = [each.annotation for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                for hint in (*hints, node.returns):
                    kinds = set(_alternatives(hint)) - {"None"}
                    if len(kinds) > 1 and any(shapes.match(kind) for kind in kinds):
                        found.append(f"{path}:{node.lineno} {node.name}: {kinds}")
    assert found == []


def _alternatives(hint: ast.expr | None) -> Iterator[str]:
    """Yield the parts of ``A | B`` as text."""
    if isinstance(hint, ast.BinOp) and isinstance(hint.op, ast.BitOr):
        yield from _alternatives(hint.left)
        yield from _alternatives(hint.right)
    elif hint is not None:
        yield ast.unparse(hint)


def test_nothing_evaluates_text() -> None:
    """No eval and no pickle: stored data is read by its contract only."""
    found = [f"{path}:{call.lineno}" for path, tree in _trees(SHIPPED) for call in _calls(tree, "eval")]
    found += [str(path) for path in SHIPPED if re.search(r"^\s*(import|from) pickle", path.read_text(), re.MULTILINE)]
    assert found == []


@pytest.mark.parametrize("record", ["TaskRecord", "JobRecord"])
def test_records_are_built_by_their_factories_only(record: str) -> None:
    """A record comes from a definition, from a request, or from a database row."""
    allowed = {"contracts/task.py", "contracts/job.py", "repositories/job.py"}
    found = {
        str(path.relative_to(SOURCE))
        for path, tree in _trees(SHIPPED)
        for call in _calls(tree, record)
        if call.keywords or call.args
    }
    assert {place for place in found - allowed if not place.endswith("rows.py")} == set()


def test_repositories_do_not_orchestrate() -> None:
    """A repository stores and asks; it knows neither controllers nor the engine."""
    found = [
        f"{path.name}: {match}"
        for path in (SOURCE / "repositories").glob("*.py")
        for match in re.findall(r"from stageflow\.(engine|workflow|worker|app)\b", path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("methods", "callers"),
    [
        ({"advance_of", "closing_of"}, {"engine/advance.py", "repositories/completion.py"}),
        ({"advance_job_stages", "complete_jobs"}, {"engine/calls.py", "repositories/completion.py"}),
        ({"advance_job_stage", "complete_job"}, set()),
    ],
)
def test_one_place_turns_a_finished_stage_into_the_next(methods: set[str], callers: set[str]) -> None:
    """engine/advance.py says what is to become of it, engine/calls.py asks for that, and nothing else does either."""
    found = {
        str(path.relative_to(SOURCE))
        for path, tree in _trees(SHIPPED)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods
    }
    assert found == callers


def _loaded_by(code: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter holds after some code."""
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, env=unmeasured).stdout.split())  # noqa: S603


def test_importing_the_package_loads_no_driver_and_opens_nothing() -> None:
    """Every public name is had without psycopg, the Azure SDK, typeguard, sqlite3 and the cron parser."""
    loaded = _loaded_by("from stageflow import *")
    assert "stageflow.app.stageflow" in loaded
    assert not {name.split(".")[0] for name in loaded} & {"psycopg", "azure", "typeguard", "sqlite3", "cronsim"}


def test_a_module_of_workflows_loads_nothing_that_runs_them() -> None:
    """What an author writes with comes with `import stageflow`; app, worker and engine come when they are named."""
    loaded = _loaded_by("from stageflow import BaseController, Contract, JobRegistry, stage, task, workflow")
    rooms = {name.split(".")[1] for name in loaded if name.startswith("stageflow.")}
    assert rooms == {"contracts", "errors", "telemetry", "workflow"}


def test_what_is_loaded_later_is_listed_before() -> None:
    """A shell that completes names offers `Stageflow` too."""
    code = "import stageflow; listed = dir(stageflow); assert set(stageflow.__all__) <= set(listed), listed"
    assert "stageflow.app" not in _loaded_by(code)


def test_a_name_that_the_package_has_not_is_refused() -> None:
    """A misspelt name is an AttributeError that says where the names are."""
    misspelt = "Stagefloww"
    with pytest.raises(AttributeError, match=r"no attribute 'Stagefloww'; its names are listed in stageflow\.__all__"):
        getattr(stageflow, misspelt)
