"""What stands in front of a decorated function: the same parameters, checks before the call and after it."""

import inspect
from collections.abc import AsyncGenerator, Callable, Collection, Generator
from enum import Enum, auto
from functools import partial
from inspect import Parameter, Signature
from typing import Any

RESULT = "return"
"""The name under which a result is checked; no parameter can have it."""

_stars = {
    Parameter.POSITIONAL_ONLY: "",
    Parameter.POSITIONAL_OR_KEYWORD: "",
    Parameter.VAR_POSITIONAL: "*",
    Parameter.KEYWORD_ONLY: "",
    Parameter.VAR_KEYWORD: "**",
}


class Kind(Enum):
    """What calling a function gives."""

    RESULT = auto()
    COROUTINE = auto()
    GENERATOR = auto()
    ASYNC_GENERATOR = auto()


def kind_of(function: Callable[..., Any]) -> Kind:
    """Return what calling ``function`` gives."""
    if inspect.iscoroutinefunction(function):
        return Kind.COROUTINE
    if inspect.isasyncgenfunction(function):
        return Kind.ASYNC_GENERATOR
    return Kind.GENERATOR if inspect.isgeneratorfunction(function) else Kind.RESULT


def free_prefix(signature: Signature) -> str:
    """Return how the wrapper's own names may start: a parameter may have any name, ``type`` included."""
    prefix = "_stageflow_"
    while any(name.startswith(prefix) for name in signature.parameters):
        prefix += "_"
    return prefix


def wrapper_source(signature: Signature, kind: Kind, checked: Collection[str], prefix: str, *, pending: bool) -> str:
    """Return the source of the wrapper; every name in it is a parameter's or begins with ``prefix``.

    It is compiled from text, because closures were too slow. Measured above the plain call, two models in and one out:
    a closure over ``*args, **kwargs`` 0.23 microseconds by position and 0.69 by keyword, of which 0.24 only to hand the
    keywords on; this 0.08 either way. And Python itself binds the arguments and reports a wrong number of them.

    Args:
        signature: Of the function; nothing but names and kinds of its parameters gets into the text.
        kind: What calling it gives.
        checked: Names of the parameters to check, and ``RESULT``.
        prefix: From :func:`free_prefix`.
        pending: The checks are still to be compiled, at the first call.
    """
    lines = [f"if {prefix}pending: {prefix}resolve()"] if pending else []
    lines += [_check(name, name, prefix, parameter) for name, parameter in signature.parameters.items() if name in checked]
    call = f"{prefix}function({_arguments(signature)})"
    match kind:
        case _ if RESULT not in checked:
            lines += [f"return {'await ' if kind is Kind.COROUTINE else ''}{call}"]
        case Kind.GENERATOR | Kind.ASYNC_GENERATOR:
            lines += [f"return {prefix}drive({call})"]
        case _:
            result = f"{prefix}result"
            lines += [f"{result} = {'await ' if kind is Kind.COROUTINE else ''}{call}"]
            lines += [_check(RESULT, result, prefix, None), f"return {result}"]
    start = "async def" if kind is Kind.COROUTINE else "def"
    return "\n    ".join([f"{start} {prefix}wrapper({_parameters(signature, prefix)}):", *lines])


def _check(name: str, variable: str, prefix: str, parameter: Parameter | None) -> str:
    tests = [f"{prefix}type({variable}) is not {prefix}exact_{name}"]
    if parameter is not None and parameter.default is not Parameter.empty:
        tests += [f"{variable} is not {prefix}default_{name}"]
    tests += [f"not {prefix}accepts_{name}({variable})"]
    return f"if {' and '.join(tests)}: {prefix}refuse_{name}({variable})"


def _parameters(signature: Signature, prefix: str) -> str:
    parts: list[str] = []
    last = None
    for name, parameter in signature.parameters.items():
        if last is Parameter.POSITIONAL_ONLY and parameter.kind is not last:
            parts += ["/"]
        if parameter.kind is Parameter.KEYWORD_ONLY and last not in (parameter.kind, Parameter.VAR_POSITIONAL):
            parts += ["*"]
        last = parameter.kind
        default = "" if parameter.default is Parameter.empty else f"={prefix}default_{name}"
        parts += [f"{_stars[last]}{name}{default}"]
    if last is Parameter.POSITIONAL_ONLY:
        parts += ["/"]
    return ", ".join(parts)


def _arguments(signature: Signature) -> str:
    return ", ".join(
        f"{name}={name}" if parameter.kind is Parameter.KEYWORD_ONLY else f"{_stars[parameter.kind]}{name}"
        for name, parameter in signature.parameters.items()
    )


def drive(
    inner: Generator[Any, Any, Any], on_item: Callable[[int, Any], None], on_return: Callable[[Any], None]
) -> Generator[Any, Any, Any]:
    """Yield what ``inner`` yields, checked; hand on what is sent and thrown, as ``yield from`` does (PEP 380)."""
    step: Callable[[], Any] = partial(next, inner)
    index = 0
    try:
        while True:
            try:
                item = step()
            except StopIteration as stop:
                on_return(stop.value)
                return stop.value
            on_item(index, item)
            index += 1
            try:
                sent = yield item
            except BaseException as error:  # noqa: BLE001 - it is the inner generator's to handle or to let out
                step = partial(inner.throw, error)
            else:
                step = partial(inner.send, sent)
    finally:
        inner.close()


async def drive_async(inner: AsyncGenerator[Any, Any], on_item: Callable[[int, Any], None]) -> AsyncGenerator[Any, Any]:
    """Yield what ``inner`` yields, checked; hand on what is sent and thrown."""
    step: Callable[[], Any] = partial(inner.asend, None)
    index = 0
    try:
        while True:
            try:
                item = await step()
            except StopAsyncIteration:
                return
            on_item(index, item)
            index += 1
            try:
                sent = yield item
            except BaseException as error:  # noqa: BLE001 - it is the inner generator's to handle or to let out
                step = partial(inner.athrow, error)
            else:
                step = partial(inner.asend, sent)
    finally:
        await inner.aclose()
