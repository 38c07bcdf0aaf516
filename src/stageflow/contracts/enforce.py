"""``@enforce_contract``: the types of a boundary function's arguments and result, checked at every call."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar, cast, get_args, get_type_hints, overload

from stageflow.contracts.checks import Check, compile_check
from stageflow.contracts.preview import preview
from stageflow.errors import ContractDefinitionError, ContractViolationError

P = ParamSpec("P")
R = TypeVar("R")

RETURN: Final = "return"
_ATTRIBUTE: Final = "__stageflow_contract__"
_unset: Final = object()


@dataclass(frozen=True, slots=True)
class FunctionContract:
    """The contract of a function, read back by :func:`contract_of`.

    Attributes:
        function: Its qualified name.
        params: Parameter name to type.
        returns: Type of the result; ``None`` where it is not checked.
    """

    function: str
    params: Mapping[str, object]
    returns: object


@overload
def enforce_contract(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def enforce_contract(
    *,
    params: Mapping[str, object] = ...,
    returns: object = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def enforce_contract(
    function: Callable[..., Any] | None = None,
    /,
    *,
    params: Mapping[str, object] | None = None,
    returns: object = _unset,
) -> Any:
    """Check a function's arguments and its result at every call; values pass through unchanged.

    Bare, the annotations are the contract. With ``params`` or ``returns`` only what they name is checked. Elements of
    containers are checked too; ``True`` is no ``int``; a pydantic model must be an instance, not a dict.

    Args:
        function: The function, when used bare.
        params: Types by parameter name; a tuple of types means any of them.
        returns: Type of the result; ``type(None)`` for ``None``.

    Raises:
        ContractDefinitionError: ``params`` names a parameter that the function lacks, or a type cannot be checked.
        ContractViolationError: At a call: an argument or the result is not what the contract says.
    """
    if function is not None:
        return _wrap(function, None, _unset)
    if params is None and returns is _unset:
        return lambda undecorated: _wrap(undecorated, None, _unset)
    return lambda undecorated: _wrap(undecorated, params or {}, returns)


def contract_of(function: Callable[..., Any]) -> FunctionContract:
    """Return the contract of a decorated function or method.

    Raises:
        ContractDefinitionError: It has none.
    """
    plain = inspect.unwrap(function, stop=lambda each: _ATTRIBUTE in vars(each)) if inspect.isfunction(function) else function
    attributes = vars(plain.__func__) if inspect.ismethod(plain) else vars(plain)
    if _ATTRIBUTE not in attributes:
        msg = f"{function!r} has no contract; decorate it with @enforce_contract"
        raise ContractDefinitionError(msg)
    contract: _Contract = attributes[_ATTRIBUTE]
    contract.resolve()
    return FunctionContract(contract.name, dict(contract.types), contract.returns)


class _Contract:
    """The compiled contract of one function; annotations that name what is defined later are resolved at the first call."""

    def __init__(self, function: Callable[..., Any], params: Mapping[str, object] | None, returns: object) -> None:
        self.function = function
        self.name = function.__qualname__
        self.types: dict[str, object] = {}
        self.returns: object = None
        self.checks: list[tuple[int, str, Check]] = []
        self.rest: Check | None = None
        self.rest_from = 0
        self.keywords: Check | None = None
        self.known: frozenset[str] = frozenset()
        self.result: Check | None = None
        self.resolved = False
        self._explicit = params
        self._explicit_returns = returns
        self._signature = inspect.signature(function)
        self._refuse_strangers()
        if params is not None or not any(isinstance(each, str) for each in function.__annotations__.values()):
            self.resolve()

    def resolve(self) -> None:
        """Compile the checks, once."""
        if self.resolved:
            return
        if self._explicit is None:
            hints = self._hints()
            self.types = {name: hints[name] for name in self._signature.parameters if name in hints}
            self.returns = hints[RETURN] if RETURN in hints else None
            has_result = RETURN in hints
        else:
            self.types = dict(self._explicit)
            has_result = self._explicit_returns is not _unset
            self.returns = self._explicit_returns if has_result else None
        self.result = self._compile(self.returns) if has_result else None
        self._compile_parameters()
        self.resolved = True

    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self.function, include_extras=True)
        except NameError as error:
            msg = f"{self.name}: the annotation {error.name!r} cannot be resolved; import or define it in the function's module"
            raise ContractDefinitionError(msg) from error

    def _compile_parameters(self) -> None:
        for position, (name, parameter) in enumerate(self._signature.parameters.items()):
            if name not in self.types:
                continue
            check = self._compile(self.types[name])
            match parameter.kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    self.rest, self.rest_from = check, position
                case inspect.Parameter.VAR_KEYWORD:
                    self.keywords = check
                case inspect.Parameter.KEYWORD_ONLY:
                    self.checks.append((1 << 30, name, check))
                case _:
                    self.checks.append((position, name, check))
        self.known = frozenset(self._signature.parameters)

    def _compile(self, annotation: object) -> Check:
        try:
            return compile_check(annotation)
        except ContractDefinitionError as error:
            msg = f"{self.name}: {error}"
            raise ContractDefinitionError(msg) from error

    def _refuse_strangers(self) -> None:
        for name in self._explicit or ():
            if name not in self._signature.parameters:
                there = ", ".join(self._signature.parameters) or "none"
                msg = f"{self.name} has no parameter {name!r}; it has: {there}. Correct the name in params"
                raise ContractDefinitionError(msg)

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise if an argument is not what the contract says."""
        if not self.resolved:
            self.resolve()
        given = len(args)
        for position, name, check in self.checks:
            if position < given:
                value = args[position]
            elif name in kwargs:
                value = kwargs[name]
            else:
                continue
            if not check.accepts(value):
                raise self._violation(name, check, value)
        if self.rest is not None:
            for place, value in enumerate(args[self.rest_from :]):
                if not self.rest.accepts(value):
                    raise self._violation(f"*args[{place}]", self.rest, value)
        if self.keywords is not None:
            for name, value in kwargs.items():
                if name not in self.known and not self.keywords.accepts(value):
                    raise self._violation(name, self.keywords, value)

    def check_result(self, value: Any) -> None:
        """Raise if the result is not what the contract says."""
        if self.result is not None and not self.result.accepts(value):
            raise self._violation(None, self.result, value)

    def yielded(self) -> Check | None:
        """Return the check of what a generator yields."""
        arguments = get_args(self.returns)
        return self._compile(arguments[0]) if arguments else None

    def _violation(self, parameter: str | None, check: Check, value: object) -> ContractViolationError:
        return violation(self.name, parameter, check, value)


def violation(function: str, parameter: str | None, check: Check, value: object) -> ContractViolationError:
    """Return the error for a value that a check refused."""
    mismatch = check.locate(value, parameter or "return value")
    what = f"parameter '{parameter}'" if parameter is not None else "return value"
    where = "" if mismatch.path in {parameter, "return value"} else f" at {mismatch.path}"
    actual, picture = type(mismatch.value).__name__, preview(mismatch.value)
    advice = "Pass" if parameter is not None else "Return"
    msg = f"{function}: {what} must be {mismatch.expected}{where}, got {actual}: {picture}. {advice} a {mismatch.expected}."
    return ContractViolationError(
        msg,
        function=function,
        parameter=parameter,
        expected=mismatch.expected,
        actual=actual,
        path=mismatch.path,
        preview=picture,
    )


def _wrap(function: Any, params: Mapping[str, object] | None, returns: object) -> Any:
    if isinstance(function, classmethod | staticmethod):
        return type(function)(_wrap(function.__func__, params, returns))
    contract = _Contract(function, params, returns)
    wrapper = _wrapper_for(function, contract)
    setattr(wrapper, _ATTRIBUTE, contract)
    return wrapper


def _wrapper_for(function: Callable[..., Any], contract: _Contract) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):
        return _async_wrapper(function, contract)
    if inspect.isasyncgenfunction(function):
        return _async_generator_wrapper(function, contract)
    if inspect.isgeneratorfunction(function):
        return _generator_wrapper(function, contract)

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        contract.check_arguments(args, kwargs)
        result = function(*args, **kwargs)
        contract.check_result(result)
        return result

    return checked


def _async_wrapper(function: Callable[..., Any], contract: _Contract) -> Callable[..., Any]:
    @wraps(function)
    async def checked(*args: Any, **kwargs: Any) -> Any:
        contract.check_arguments(args, kwargs)
        result = await function(*args, **kwargs)
        contract.check_result(result)
        return result

    return checked


def _generator_wrapper(function: Callable[..., Any], contract: _Contract) -> Callable[..., Any]:
    def watch(values: Iterator[Any]) -> Iterator[Any]:
        check = contract.yielded()
        for value in values:
            if check is not None and not check.accepts(value):
                raise violation(contract.name, None, check, value)
            yield value

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        contract.check_arguments(args, kwargs)
        return watch(function(*args, **kwargs))

    return checked


def _async_generator_wrapper(function: Callable[..., Any], contract: _Contract) -> Callable[..., Any]:
    async def watch(values: AsyncIterator[Any]) -> AsyncIterator[Any]:
        check = contract.yielded()
        async for value in values:
            if check is not None and not check.accepts(value):
                raise violation(contract.name, None, check, value)
            yield value

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        contract.check_arguments(args, kwargs)
        return watch(cast("AsyncIterator[Any]", function(*args, **kwargs)))

    return checked
