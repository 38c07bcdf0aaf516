"""The first example prints what its reader expects."""

from collections.abc import Callable


def test_hello_world_replies_to_the_greeting_of_the_same_index(run_example: Callable[..., list[str]]) -> None:
    """Data flows from each task of stage 1 to the task of stage 2 with its index."""
    status, *replies = run_example("hello_world.py", "4")
    assert status == "completed"
    assert replies == [str({"text": f"World replies to: Hello World from task {index}!"}) for index in range(4)]


def test_hello_world_greets_three_by_default(run_example: Callable[..., list[str]]) -> None:
    """Without an argument there are three."""
    assert len(run_example("hello_world.py")) == 1 + 3
