"""The list of faults is whole: each has a test that is named after it, here or beside what it is about."""

import re
from pathlib import Path

import pytest

FAULTS = range(1, 23)


@pytest.mark.faults
def test_every_fault_has_a_test_of_its_name() -> None:
    """F1 to F22 are all injected by some test."""
    folder = Path(__file__).parents[1]
    named = {
        int(number)
        for file in folder.rglob("test_*.py")
        for number in re.findall(r"^ *def test_f(\d\d)_", file.read_text(), flags=re.MULTILINE)
    }
    assert named == set(FAULTS)
