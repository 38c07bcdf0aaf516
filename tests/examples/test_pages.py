"""The code on the pages of the documentation: it runs, prints what the page says, and passes a strict type checker."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/quickstart.md",
    "docs/workflows.md",
    "docs/orchestration.md",
    "docs/policies.md",
    "docs/handlers.md",
    "docs/how-to/long-tasks.md",
    "docs/how-to/transactions.md",
    "docs/testing.md",
]


def blocks(page: str, kind: str) -> list[str]:
    """Return the blocks of one kind on a page, in order."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def script(page: str, folder: Path) -> Path:
    """Write the code of a page, all blocks in order, as the script that its reader would make of it."""
    path = folder / f"{Path(page).stem.lower()}_page.py"
    path.write_text("\n\n".join(blocks(page, "python")))
    return path


@pytest.mark.parametrize("page", PAGES)
def test_the_code_on_the_page_runs_and_prints_what_the_page_says(page: str, tmp_path: Path) -> None:
    """A reader who copies the code sees the output that is printed below it."""
    command = [sys.executable, str(script(page, tmp_path))]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == "".join(blocks(page, "text"))


def test_every_page_with_code_is_run() -> None:
    """Code that nobody runs is wrong sooner or later."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    with_code = {str(path.relative_to(ROOT)) for path in pages if blocks(str(path.relative_to(ROOT)), "python")}
    assert with_code == set(PAGES)


@pytest.mark.timeout(300)
def test_the_code_on_the_pages_is_strictly_typed(tmp_path: Path) -> None:
    """What is shown to authors passes ``mypy --strict`` in their hands."""
    scripts = [str(script(page, tmp_path)) for page in PAGES]
    config = tmp_path / "mypy.ini"
    config.write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT / 'src'}\n")
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), *scripts]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert answer.returncode == 0, answer.stdout
