"""Leave mutmut some modules in whole, and of the others a sample: ``python -m tests.mutants.sample``, before ``mutmut run``.

All of them are some 6,700, which is hours. What is left out is shown as "skipped".
"""

import json
import random
import sys
from pathlib import Path

WHOLE = {
    "contracts": "base json_fields json_text limits payload retry schedule status validated",
    "engine": "recover resubmit route writes",
}
"""The modules of which every mutant is judged."""
SIZE = 300
SEED = 20
SKIPPED = 34
"""What mutmut notes for a mutant that is not to be run."""


def main() -> None:
    """Note in mutmut's folder what is not in the sample; what was judged stays judged."""
    files = sorted(Path("mutants/src/stageflow").glob("*/*.meta"))
    if not files:
        sys.exit("there are no mutants yet; make them with `mutmut run 'stageflow.contracts.validated.*'`")
    whole = {Path("mutants/src/stageflow", room, f"{name}.py.meta") for room in WHOLE for name in WHOLE[room].split()}
    notes = {file: json.loads(file.read_text()) for file in files}
    others = sorted(mutant for file in files if file not in whole for mutant in notes[file]["exit_code_by_key"])
    chosen = set(random.Random(SEED).sample(others, SIZE))  # noqa: S311 - nothing is secret
    for file in set(files) - whole:
        judged = notes[file]["exit_code_by_key"]
        judged.update({mutant: SKIPPED for mutant in judged if mutant not in chosen})
        file.write_text(json.dumps(notes[file], indent=4))


if __name__ == "__main__":
    main()
