"""What a twin's worker does with a task: JSON text in, JSON text out, nothing checked."""

from pydantic_core import from_json, to_json


def run_handler(stage: int, payload: str) -> str:
    """Square the index in the first stage, hand the square on in the second."""
    given = from_json(payload)
    index = given["index"]
    value = index * index if stage == 1 else given["value"]
    return to_json({"index": index, "value": value}).decode()
