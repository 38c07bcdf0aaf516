"""``enforce_contract``: the arguments and the result of a boundary function are what its contract says, or it stops.

The checks are compiled once. At a call nothing is converted, copied or guessed: the very objects that came in go through.
"""

import collections.abc
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from inspect import Parameter
from types import FrameType, FunctionType, MappingProxyType
from typing import Any, Final, Protocol, TypeVar, Union, get_args, get_origin, overload

from stageflow.contracts.checks import ANYTHING, Anything, Check
from stageflow.contracts.hints import compile_check, describe, resolve_hints
from stageflow.contracts.preview import preview
from stageflow.contracts.wrapper import RESULT, Kind, drive, drive_async, free_prefix, kind_of, wrapper_source
from stageflow.errors import ContractDefinitionError, ContractViolationError

# The function itself, not Callable[P, R]: so a classmethod stays one, and nothing of the type gets lost.
FunctionT = TypeVar("FunctionT", bound="Callable[..., Any] | classmethod[Any, ..., Any] | staticmethod[..., Any]")

_unspecified: Final = object()
# What a generator function may say that it returns.
_yielding = {
    Kind.GENERATOR: (collections.abc.Iterator, collections.abc.Iterable, collections.abc.Generator),
    Kind.ASYNC_GENERATOR: (
        collections.abc.AsyncIterator,
        collections.abc.AsyncIterable,
        collections.abc.AsyncGenerator,
    ),
}


@dataclass(frozen=True, slots=True)
class FunctionContract:
    """What a decorated function takes and returns.

    Attributes:
        function: Qualified name of the function.
        params: The type of each checked parameter; of ``*args`` and ``**kwargs`` the type of one element.
        returns: The type of the result; ``type(None)`` where nothing is returned, ``None`` where it is not checked.
    """

    function: str
    params: Mapping[str, Any]
    returns: Any


class _Decorator(Protocol):
    def __call__(self, function: FunctionT, /) -> FunctionT: ...


@overload
def enforce_contract(function: FunctionT, /) -> FunctionT: ...
@overload
def enforce_contract(*, params: Mapping[str, Any] | None = None, returns: Any = _unspecified) -> _Decorator: ...
def enforce_contract(
    function: Any = _unspecified, /, *, params: Mapping[str, Any] | None = None, returns: Any = _unspecified
) -> Any:
    """Check arguments and result of a function, method, coroutine function or generator at each call.

    Written bare, or with empty parentheses, it reads the annotations. With ``params`` or ``returns`` it checks what these
    name and nothing else. A type may be anything that an annotation may be, its name in a string, or a tuple of types.
    Elements are checked, not only their container: of collections and mappings when they are passed, of a generator as it
    yields. An iterator that is passed or returned by something that is no generator is checked as an iterator: looking at
    its elements would use them up. A parameter's default fits by definition. Classes are matched by ``type(value)``, so
    mocks do not fit; ``True`` is no ``int``; constraints inside ``Annotated`` are the models' business.

    A decorated generator function checks its arguments when it is called, not at the first ``next``.

    Args:
        function: The function, when the decorator is written bare.
        params: Parameter name to type. Of ``*args`` and ``**kwargs``, the type of one element.
        returns: Type of the result; ``type(None)`` for ``None``; ``Iterator[X]`` for generators.

    Raises:
        ContractDefinitionError: At decoration, if the contract names a parameter that the function lacks or a type that
            cannot be checked; at the first call, if a name in it is still not defined.
        ContractViolationError: At a call, naming the function, the parameter and the bad element.
    """
    # Names inside strings may be local to the caller.
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way to the caller's frame
    if function is not _unspecified:
        return _decorated(function, None, _unspecified, frame)
    if returns is None:
        msg = "enforce_contract: returns=None is ambiguous; write returns=type(None), or leave it out to check no result."
        raise ContractDefinitionError(msg)

    def decorate(function: FunctionT, /) -> FunctionT:
        decorated: FunctionT = _decorated(function, params, returns, frame)
        return decorated

    return decorate


def contract_of(function: "Callable[..., Any] | classmethod[Any, ..., Any] | staticmethod[..., Any]") -> FunctionContract:
    """Return the contract of a decorated function or method.

    Raises:
        ContractDefinitionError: The function is not decorated, or a name in its contract is not defined.
    """
    plain: Any = function.__func__ if isinstance(function, classmethod | staticmethod) else function
    try:
        enforcement: _Enforcement = plain.__stageflow_enforcement__
    except AttributeError as error:
        msg = f"{preview(function)} has no contract; decorate it with @enforce_contract."
        raise ContractDefinitionError(msg) from error
    return enforcement.contract()


def _decorated(function: Any, params: Mapping[str, Any] | None, returns: Any, frame: FrameType) -> Any:
    if isinstance(function, classmethod | staticmethod):
        return type(function)(_decorated(function.__func__, params, returns, frame))
    if not isinstance(function, FunctionType):
        msg = (
            f"enforce_contract: {preview(function)} is not a function. "
            "Put the decorator directly above a def, below @property and other decorators that make objects."
        )
        raise ContractDefinitionError(msg)
    return _Enforcement(function, params, returns, frame).wrapper()


class _Enforcement:
    """One function's contract and the wrapper that enforces it.

    It is compiled at decoration. If a name in it is not defined yet (a class further down in the module, or the very class
    whose body is being run), that is put off to the first call, and the caller's frame is kept so long.
    """

    _yielded: tuple[Check, Check]
    """What a generator yields, and the value that ends it."""

    def __init__(self, function: FunctionType, params: Mapping[str, Any] | None, returns: Any, frame: FrameType) -> None:
        self._function = function
        self._name = function.__qualname__
        self._signature = inspect.signature(function)
        self._kind = kind_of(function)
        self._hints: Mapping[str, Any] = self._chosen(params, returns)
        self._checks: dict[str, Check] | None = None
        self._prefix = free_prefix(self._signature)
        self._names: dict[str, Any] = {}
        self._frame: FrameType | None = frame
        try:
            self._compile()
        except (NameError, AttributeError):
            self._bind(pending=True, resolve=self._resolve)

    def wrapper(self) -> Any:
        """Return the function that takes the decorated one's place."""
        defaults = {f"default_{name}": parameter.default for name, parameter in self._signature.parameters.items()}
        self._bind(function=self._function, type=type, drive=self._drive, **defaults)
        if self._checks is None:
            checked = set(self._hints)
        else:
            checked = {name for name, check in self._checks.items() if not isinstance(check, Anything)}
        source = wrapper_source(self._signature, self._kind, checked, self._prefix, pending=self._checks is None)
        exec(compile(source, f"<enforce_contract {self._name}>", "exec"), self._names)  # noqa: S102 - see wrapper_source
        wrapper: Any = wraps(self._function)(self._names[f"{self._prefix}wrapper"])
        wrapper.__stageflow_enforcement__ = self
        return wrapper

    def contract(self) -> FunctionContract:
        """Return the contract with all its names resolved."""
        self._resolve()
        params = {name: hint for name, hint in self._hints.items() if name != RESULT}
        return FunctionContract(self._name, MappingProxyType(params), self._hints.get(RESULT))

    def _chosen(self, params: Mapping[str, Any] | None, returns: Any) -> dict[str, Any]:
        names = list(self._signature.parameters)
        if params is None and returns is _unspecified:
            annotations = self._function.__annotations__
            chosen = {name: annotations[name] for name in [*names, RESULT] if name in annotations}
            if not chosen:
                msg = f"{self._name} has no annotations to check; annotate it, or give params= or returns= to enforce_contract."
                raise ContractDefinitionError(msg)
            return chosen
        for name in params or ():
            if name not in names:
                msg = (
                    f"{self._name} has no parameter {name!r}; its parameters are {', '.join(names) or 'none'}. "
                    "Correct the name in params=."
                )
                raise ContractDefinitionError(msg)
        chosen = {name: self._one_hint(hint) for name, hint in (params or {}).items()}
        return chosen if returns is _unspecified else {**chosen, RESULT: self._one_hint(returns)}

    def _one_hint(self, hint: Any) -> Any:
        if not isinstance(hint, tuple):
            return hint
        try:
            return Union[tuple(map(self._one_hint, hint))]  # noqa: UP007 - as many as there are
        except (SyntaxError, TypeError) as error:
            raise self._unreadable(error) from error

    def _compile(self) -> None:
        innermost = inspect.unwrap(self._function)
        names = (innermost if isinstance(innermost, FunctionType) else self._function).__globals__
        try:
            hints = resolve_hints(self._hints, names, _local_names(self._frame, names))
        except (SyntaxError, TypeError) as error:
            raise self._unreadable(error) from error
        checks = {name: self._check(name, hint) for name, hint in hints.items()}
        for name, check in checks.items():
            refuse = partial(self._refuse, check, name, name)
            self._bind(**{f"exact_{name}": check.exact, f"accepts_{name}": check.accepts, f"refuse_{name}": refuse})
        self._hints, self._checks, self._frame = MappingProxyType(hints), checks, None
        # Last: another thread may be on its way through the wrapper.
        self._bind(pending=False)

    def _resolve(self) -> None:
        if self._checks is not None:
            return
        try:
            self._compile()
        except (NameError, AttributeError) as error:
            msg = (
                f"{self._name}: a name in its contract is not defined: {error}. Import it where the function is defined, "
                "not under `if TYPE_CHECKING:`, or give the type with params= or returns=."
            )
            raise ContractDefinitionError(msg) from error

    def _unreadable(self, error: Exception) -> ContractDefinitionError:
        msg = f"{self._name}: its contract cannot be read: {str(error).removesuffix('.')}. Write types, or their names."
        return ContractDefinitionError(msg)

    def _bind(self, **names: Any) -> None:
        self._names.update({self._prefix + name: value for name, value in names.items()})

    def _check(self, name: str, hint: Any) -> Check:
        try:
            check = self._yielding(hint) if name == RESULT and self._kind in _yielding else compile_check(hint)
        except ContractDefinitionError as error:
            msg = f"{self._name}: {_place(name)}: {error}."
            raise ContractDefinitionError(msg) from error
        kind = None if name == RESULT else self._signature.parameters[name].kind
        if isinstance(check, Anything):
            return check
        if kind is Parameter.VAR_POSITIONAL:
            return compile_check(tuple[hint, ...])
        if kind is Parameter.VAR_KEYWORD:
            return compile_check(dict[str, hint])
        return check

    def _yielding(self, hint: Any) -> Check:
        allowed = _yielding[self._kind]
        if hint is not Any and hint is not object and (get_origin(hint) or hint) not in allowed:
            names = " or ".join(f"{cls.__name__}[X]" for cls in allowed)
            msg = f"a generator function returns {names}, not {describe(hint)}"
            raise ContractDefinitionError(msg)
        item, _, final = (*map(compile_check, get_args(hint)), ANYTHING, ANYTHING, ANYTHING)[:3]
        self._yielded = (item, final)
        return final if isinstance(item, Anything) else item

    def _drive(self, generator: Any) -> Any:
        item, final = self._yielded
        accepts = item.accepts

        def on_item(index: int, value: Any) -> None:
            if not accepts(value):
                self._refuse(item, RESULT, f"yield[{index}]", value)

        def on_return(value: Any) -> None:
            if not final.accepts(value):
                self._refuse(final, RESULT, RESULT, value)

        if self._kind is Kind.GENERATOR:
            return drive(generator, on_item, on_return)
        return drive_async(generator, on_item)

    def _refuse(self, check: Check, name: str, path: str, value: Any) -> None:
        finding = check.find(value, path)
        picture = preview(finding.value)
        where = _place(name) if finding.path == name else f"{finding.path} in {_place(name)}"
        got = finding.actual if finding.actual == picture else f"{finding.actual} ({picture})"
        because = f": {finding.reason}" if finding.reason else ""
        advice = (
            f"Return {finding.expected} from the function, or correct its contract."
            if name == RESULT
            else f"Pass {finding.expected}; nothing is converted here."
        )
        msg = f"{self._name}: {where} must be {finding.expected}, got {got}{because}. {advice}"
        raise ContractViolationError(
            msg,
            function=self._name,
            parameter=None if name == RESULT else name,
            expected=finding.expected,
            actual=finding.actual,
            path=finding.path,
            preview=picture,
        )


def _place(name: str) -> str:
    return "return value" if name == RESULT else f"parameter {name!r}"


def _local_names(frame: FrameType | None, names: Mapping[str, Any]) -> dict[str, Any]:
    # From the inside out: class bodies, up to the function they are in. Further out, frames are callers, not scopes.
    found: dict[str, Any] = {}
    while frame is not None and frame.f_globals is names and frame.f_locals is not names:
        found = {**frame.f_locals, **found}
        frame = None if frame.f_code.co_flags & inspect.CO_OPTIMIZED else frame.f_back
    return found
