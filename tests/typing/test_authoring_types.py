"""What type checkers say to authors, without any plugin."""

import json
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

here = Path(__file__).parent
accepted, refused = here / "authoring.py", here / "authoring_refused.py"
sources = here.parents[1] / "src"


def marked_lines() -> list[int]:
    """Return the numbers of the lines that are marked as mistakes."""
    lines = refused.read_text().splitlines()
    return [number for number, line in enumerate(lines, start=1) if "# type: ignore[" in line]


@pytest.fixture
def unmarked(tmp_path: Path) -> Path:
    """Return a copy of the mistakes without the comments that silence a type checker."""
    copy = tmp_path / "mistakes.py"
    copy.write_text(re.sub(r"  # type: ignore\[.*\]", "", refused.read_text()))
    return copy


def run(*arguments: str, cwd: Path) -> str:
    """Run a type checker and return what it prints."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False).stdout  # noqa: S603


@pytest.mark.timeout(300)
def test_mypy_accepts_every_right_form_and_refuses_every_mistake_at_its_line(unmarked: Path) -> None:
    """An author who uses ``mypy --strict`` sees a mistake where it is, and no false alarm."""
    config = unmarked.with_name("mypy.ini")
    config.write_text(f"[mypy]\nstrict = true\nmypy_path = {sources}\n")
    output = run("mypy", "--config-file", str(config), str(unmarked), str(accepted), cwd=unmarked.parent)
    errors = re.findall(r"^(.*?):(\d+): error: ", output, flags=re.MULTILINE)
    found = Counter(int(line) for file, line in errors if Path(file).name == unmarked.name)
    assert sorted(found) == marked_lines(), output
    assert {Path(file).name for file, _ in errors} == {unmarked.name}, output


@pytest.mark.timeout(300)
def test_pyright_accepts_every_right_form_and_refuses_every_mistake_at_its_line(unmarked: Path) -> None:
    """An author whose editor runs pyright sees a mistake where it is, and no false alarm."""
    config = unmarked.with_name("pyrightconfig.json")
    config.write_text(
        json.dumps(
            {
                "include": [str(unmarked), str(accepted)],
                "extraPaths": [str(sources)],
                "pythonVersion": "3.11",
                "typeCheckingMode": "strict",
            }
        )
    )
    output = run("pyright", "--outputjson", "-p", str(config), "--pythonpath", sys.executable, cwd=unmarked.parent)
    errors = [report for report in json.loads(output)["generalDiagnostics"] if report["severity"] == "error"]
    lines = {report["range"]["start"]["line"] + 1 for report in errors if Path(report["file"]).name == unmarked.name}
    assert sorted(lines) == marked_lines(), output
    assert {Path(report["file"]).name for report in errors} == {unmarked.name}, output


def test_what_type_checkers_accept_can_be_registered() -> None:
    """The checks at run time agree with those of the type checkers."""
    assert [workflow.job_type for workflow in runpy.run_path(str(accepted))["registry"]] == ["survey"]
