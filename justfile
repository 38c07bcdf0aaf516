# What contributors run.

test:
    pytest

lint:
    ruff check
    ruff format --check
    lint-imports

types:
    mypy
    pyright

docs:
    sphinx-build -W --keep-going -q -b html docs docs/_build

all:
    bash .ci/run
