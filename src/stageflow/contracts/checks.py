"""Compiled type checks: a quick predicate for each annotation, and a slow walk that finds the bad element."""

import collections.abc
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, ForwardRef, Literal, TypeVar, Union, cast, get_args, get_origin

from stageflow.errors import ContractDefinitionError

Predicate = Callable[[object], bool]

_STREAMS: Final = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
    collections.abc.Coroutine,
    collections.abc.Awaitable,
)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where a value is not what its annotation says."""

    path: str
    expected: str
    value: object


@dataclass(frozen=True, slots=True)
class Check:
    """A compiled annotation.

    Attributes:
        expected: The annotation, for messages.
        accepts: Whether a value is what the annotation says; looks at every element.
        locate: The first mismatch of a value that was not accepted, under the given path.
    """

    expected: str
    accepts: Predicate
    locate: Callable[[object, str], Mismatch]


def compile_check(annotation: object) -> Check:
    """Compile an annotation, or a tuple of alternatives.

    Raises:
        ContractDefinitionError: It is a forward reference that is not resolved.
    """
    match annotation:
        case tuple():
            return _union(annotation)
        case str() | ForwardRef():
            msg = f"the forward reference {annotation!r} is not resolved; define the name in the function's module"
            raise ContractDefinitionError(msg)
        case None | types.NoneType:
            return _leaf("None", lambda value: value is None)
        case TypeVar():
            return _type_variable(annotation)
        case typing.NewType():
            return compile_check(annotation.__supertype__)
        case _:
            pass
    if annotation is Any or annotation is object:
        return _leaf("Any", lambda _: True)
    if get_origin(annotation) is not None:
        return _generic(annotation)
    if isinstance(annotation, type):
        return _class(annotation)
    return _by_typeguard(annotation)


def _leaf(expected: str, accepts: Predicate) -> Check:
    return Check(expected, accepts, lambda value, path: Mismatch(path, expected, value))


def _class(cls: type) -> Check:
    if cls is float:
        return _leaf("float", lambda value: isinstance(value, float) or type(value) is int)
    if cls is int:
        return _leaf("int", lambda value: isinstance(value, int) and not isinstance(value, bool))
    if cls.__dict__.get("_is_protocol") is True:
        return _by_typeguard(cls)
    return _leaf(cls.__name__, lambda value: isinstance(value, cls))


def _type_variable(variable: TypeVar) -> Check:
    if variable.__constraints__:
        return _union(variable.__constraints__)
    return compile_check(Any if variable.__bound__ is None else variable.__bound__)


def _union(members: tuple[object, ...]) -> Check:
    checks = [compile_check(member) for member in members]
    expected = " | ".join(check.expected for check in checks)

    def locate(value: object, path: str) -> Mismatch:
        if len(checks) == 2 and any(check.expected == "None" for check in checks):  # noqa: PLR2004  X | None
            other = next(check for check in checks if check.expected != "None")
            inner = other.locate(value, path)
            return Mismatch(path, expected, value) if inner.path == path else inner
        return Mismatch(path, expected, value)

    return Check(expected, lambda value: any(check.accepts(value) for check in checks), locate)


def _generic(annotation: object) -> Check:
    origin, arguments = cast("Any", get_origin(annotation)), get_args(annotation)
    if origin is Union or origin is types.UnionType:
        return _union(arguments)
    if origin is Annotated:
        return compile_check(arguments[0])
    if origin is Literal:
        allowed = {(type(value), value) for value in arguments}
        return _leaf(str(annotation).removeprefix("typing."), lambda value: _hashable_in(value, allowed))
    if origin is type or origin is collections.abc.Callable:
        return _by_typeguard(annotation)
    if origin is tuple:
        return _tuple(arguments)
    if origin in _STREAMS:
        return _leaf(_name(annotation), lambda value: isinstance(value, origin))
    if issubclass(origin, collections.abc.Mapping):
        return _mapping(origin, arguments)
    if issubclass(origin, collections.abc.Collection):
        return _collection(origin, compile_check(arguments[0]))
    return _leaf(_name(annotation), lambda value: isinstance(value, origin))


def _hashable_in(value: object, allowed: set[tuple[type, Any]]) -> bool:
    return isinstance(value, collections.abc.Hashable) and (type(value), value) in allowed


def _collection(origin: type, element: Check) -> Check:
    expected = f"{origin.__name__}[{element.expected}]"
    accepts_element = element.accepts

    def accepts(value: object) -> bool:
        return isinstance(value, origin) and all(map(accepts_element, cast("Any", value)))

    def locate(value: object, path: str) -> Mismatch:
        if not isinstance(value, origin):
            return Mismatch(path, expected, value)
        index, bad = next((at, each) for at, each in enumerate(cast("Any", value)) if not accepts_element(each))
        return element.locate(bad, f"{path}[{index}]")

    return Check(expected, accepts, locate)


def _mapping(origin: type, arguments: tuple[object, ...]) -> Check:
    key, item = compile_check(arguments[0]), compile_check(arguments[1])
    expected = f"{origin.__name__}[{key.expected}, {item.expected}]"

    def accepts(value: object) -> bool:
        if not isinstance(value, origin):
            return False
        mapping = cast("collections.abc.Mapping[object, object]", value)
        return all(map(key.accepts, mapping)) and all(map(item.accepts, mapping.values()))

    def locate(value: object, path: str) -> Mismatch:
        if not isinstance(value, origin):
            return Mismatch(path, expected, value)
        for name, each in cast("collections.abc.Mapping[object, object]", value).items():
            if not key.accepts(name):
                return key.locate(name, f"{path} key {name!r:.60}")
            if not item.accepts(each):
                return item.locate(each, f"{path}[{name!r:.60}]")
        return Mismatch(path, expected, value)

    return Check(expected, accepts, locate)


def _tuple(arguments: tuple[object, ...]) -> Check:
    if len(arguments) == 2 and arguments[1] is Ellipsis:  # noqa: PLR2004  tuple[X, ...]
        return _collection(tuple, compile_check(arguments[0]))
    checks = [compile_check(argument) for argument in arguments]
    expected = f"tuple[{', '.join(check.expected for check in checks)}]"

    def accepts(value: object) -> bool:
        return (
            isinstance(value, tuple)
            and len(value) == len(checks)
            and all(check.accepts(each) for check, each in zip(checks, value, strict=True))
        )

    def locate(value: object, path: str) -> Mismatch:
        if not isinstance(value, tuple) or len(value) != len(checks):
            return Mismatch(path, expected, value)
        pairs = enumerate(zip(checks, value, strict=True))
        index, check, bad = next((at, check, each) for at, (check, each) in pairs if not check.accepts(each))
        return check.locate(bad, f"{path}[{index}]")

    return Check(expected, accepts, locate)


def _by_typeguard(annotation: object) -> Check:
    """What plain classes and containers cannot express: protocols, callables, ``type[X]``."""

    def accepts(value: object) -> bool:
        from typeguard import (  # noqa: PLC0415  loaded on first need
            CollectionCheckStrategy,
            ForwardRefPolicy,
            TypeCheckError,
            check_type,
        )

        try:
            check_type(
                value,
                cast("Any", annotation),
                collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS,
                forward_ref_policy=ForwardRefPolicy.ERROR,
            )
        except TypeCheckError:
            return False
        return True

    return _leaf(_name(annotation), accepts)


def _name(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
