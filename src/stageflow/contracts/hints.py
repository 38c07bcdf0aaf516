"""From a type hint to its check: names are resolved, and what cannot be checked is refused."""

import collections
import collections.abc
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NoReturn,
    ParamSpecArgs,
    ParamSpecKwargs,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import typing_extensions
from pydantic import BaseModel

from stageflow.contracts.checks import (
    ANYTHING,
    Anything,
    Check,
    Elements,
    Entries,
    FixedTuple,
    Later,
    LiteralValue,
    Nothing,
    OfClass,
    OfGenericModel,
    OfType,
    OneOf,
    TypedEntries,
    class_name,
)
from stageflow.contracts.shapes import ByTypeguard, OfProtocol
from stageflow.errors import ContractDefinitionError

# pydantic's JsonValue is one of typing_extensions; the `type` statement makes the other.
_alias_types: tuple[Any, ...] = (typing_extensions.TypeAliasType,)
if sys.version_info >= (3, 12):  # pragma: no cover - the tests run on each version
    _alias_types = (*_alias_types, typing.TypeAliasType)
_named: tuple[Any, ...] = (TypeVar, typing.NewType, *_alias_types)
_unions = (Union, types.UnionType)
_callables: tuple[Any, ...] = (collections.abc.Callable,)
_files = (typing.IO, typing.TextIO, typing.BinaryIO)
_booleans = (typing_extensions.TypeGuard, typing_extensions.TypeIs)
_wrappers = (
    Annotated,
    ClassVar,
    typing_extensions.Required,
    typing_extensions.NotRequired,
    typing_extensions.ReadOnly,
)
# Generic classes whose elements can be looked at as often as one likes. The type parameter of another class says nothing
# that could be checked: iterating, say, a paged result would read a whole store.
_collections = frozenset(
    {
        list,
        set,
        frozenset,
        collections.deque,
        collections.abc.Sequence,
        collections.abc.MutableSequence,
        collections.abc.Set,
        collections.abc.MutableSet,
        collections.abc.Collection,
        collections.abc.Iterable,
        collections.abc.KeysView,
        collections.abc.ValuesView,
    }
)
_mappings = frozenset(
    {
        dict,
        collections.defaultdict,
        collections.OrderedDict,
        collections.ChainMap,
        types.MappingProxyType,
        collections.abc.Mapping,
        collections.abc.MutableMapping,
    }
)


def resolve_hints(hints: Mapping[str, Any], names: dict[str, Any], local_names: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``hints`` with the names inside their strings replaced by what they name.

    Raises:
        NameError: A name is not defined, or not yet.
        AttributeError: A module has no such attribute, or not yet.
    """
    holder = types.SimpleNamespace(__annotations__=dict(hints))
    return typing.get_type_hints(holder, names, dict(local_names), include_extras=True)


def compile_check(hint: Any) -> Check:
    """Return the check of a type.

    Raises:
        ContractDefinitionError: The type cannot be checked.
        NameError: A type inside names something that is not defined, or not yet.
        AttributeError: The same, of a module's attribute.
    """
    return _Compiler().check(hint)


def describe(hint: Any) -> str:
    """Return a type as a person writes it, without modules."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return describe(args[0])
    if origin in _unions:
        return " | ".join(map(describe, args))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, args))}]"
    if hint == tuple[()]:
        return "tuple[()]"
    if origin is not None:
        name = describe(origin)
        return f"{name}[{', '.join(map(describe, args))}]" if args else name
    if isinstance(hint, list):
        return f"[{', '.join(map(describe, hint))}]"
    if hint is Ellipsis:
        return "..."
    if hint is None or isinstance(hint, type):
        return class_name(hint or type(None))
    if isinstance(hint, _named):
        return str(hint.__name__)
    return repr(hint).removeprefix("typing.").removeprefix("typing_extensions.")


class _Compiler:
    """One compilation; it remembers what is under way, so that types may contain themselves."""

    def __init__(self) -> None:
        self._under_way: dict[Any, Later] = {}

    def check(self, hint: Any) -> Check:
        """Return the check of a type of any form."""
        if hint is Any or hint is object or isinstance(hint, ParamSpecArgs | ParamSpecKwargs):
            return ANYTHING
        if hint is None:
            return OfClass("None", type(None))
        if hint in (typing_extensions.Never, NoReturn):
            return Nothing("no value at all")
        if hint is typing_extensions.LiteralString:
            return OfClass("str", str)
        if isinstance(hint, TypeVar):
            return self.check(_bound(hint))
        if isinstance(hint, typing.NewType):
            return self.check(hint.__supertype__)
        if isinstance(hint, _alias_types):
            return self._tie(hint, lambda: self.check(_resolve_where(hint.__value__, hint)))
        if isinstance(hint, type) and get_origin(hint) is None:
            return self._of_class(hint)
        return self._of_form(hint, get_origin(hint), get_args(hint))

    def _tie(self, hint: Any, build: Callable[[], Check]) -> Check:
        if hint not in self._under_way:
            later = self._under_way[hint] = Later(describe(hint))
            later.check = build()
            return later.check
        return self._under_way[hint]

    def _of_class(self, cls: type) -> Check:
        if cls in _files:
            return ByTypeguard(class_name(cls), cls, mocks=False)
        if typing_extensions.is_typeddict(cls):
            return self._tie(cls, lambda: self._of_typed_dict(cls))
        if typing_extensions.is_protocol(cls):
            return self._tie(cls, lambda: self._of_protocol(cls))
        if issubclass(cls, BaseModel) and cls is not BaseModel and cls.__pydantic_generic_metadata__["origin"] is not None:
            return OfGenericModel(class_name(cls), cls)
        return OfClass(class_name(cls), cls)

    def _of_form(self, hint: Any, origin: Any, args: tuple[Any, ...]) -> Check:  # noqa: C901, PLR0912 - a line a form
        if origin is Annotated:
            return self.check(args[0])
        if origin in _unions:
            return self._of_union(hint, args)
        if origin is Literal:
            return LiteralValue(describe(hint), args)
        if origin in _booleans:
            return OfClass("bool", bool)
        if isinstance(origin, _alias_types):
            return self._tie(hint, lambda: self.check(_resolve_where(origin.__value__, origin)[args]))
        if not isinstance(origin, type) or (isinstance(hint, types.GenericAlias) and hint.__unpacked__):
            return _refuse(hint)
        if origin is tuple and repr(hint) != "typing.Tuple":
            return self._of_tuple(hint, args)
        if not args:
            return self._of_class(origin)
        if origin is type:
            return _of_type(hint, args[0])
        if origin in _callables and args[0] is not Ellipsis:
            return ByTypeguard(describe(hint), hint, mocks=True)
        if origin in _collections:
            return self._of_elements(hint, origin, self.check(args[0]))
        if origin in _mappings:
            return Entries(OfClass(describe(hint), origin), *map(self.check, args))
        if origin is collections.Counter:
            return Entries(OfClass(describe(hint), origin), self.check(args[0]), self.check(int))
        if origin in _files:
            return ByTypeguard(describe(hint), hint, mocks=False)
        check = self._of_class(origin)
        return OfClass(describe(hint), origin) if isinstance(check, OfClass) else check

    def _of_union(self, hint: Any, args: Iterable[Any]) -> Check:
        checks = [self.check(arg) for arg in args]
        if any(isinstance(check, Anything) for check in checks):
            return ANYTHING
        classes = [cls for check in checks if isinstance(check, OfClass) for cls in check.classes]
        others = [check for check in checks if not isinstance(check, OfClass)]
        if not others:
            return OfClass(describe(hint), *classes)
        plain = [OfClass(describe(hint), *classes)] if classes else []
        return OneOf(describe(hint), [*plain, *others])

    def _of_tuple(self, hint: Any, args: tuple[Any, ...]) -> Check:
        match args:
            case (element, types.EllipsisType()):
                return self._of_elements(hint, tuple, self.check(element))
            case _:
                return FixedTuple(describe(hint), [self.check(arg) for arg in args])

    def _of_elements(self, hint: Any, container: type, element: Check) -> Check:
        plain = OfClass(describe(hint), container)
        return plain if isinstance(element, Anything) else Elements(plain, element)

    def _of_typed_dict(self, cls: Any) -> Check:
        hints = typing_extensions.get_type_hints(cls, include_extras=True)
        # `__required_keys__` misses the wrappers that are written inside strings.
        required = {
            name
            for name, hint in hints.items()
            if _wrapped_in(hint, typing_extensions.Required)
            or (name in cls.__required_keys__ and not _wrapped_in(hint, typing_extensions.NotRequired))
        }
        return TypedEntries(class_name(cls), {name: self.check(_unwrapped(hint)) for name, hint in hints.items()}, required)

    def _of_protocol(self, cls: Any) -> Check:
        hints = typing_extensions.get_type_hints(cls)
        attributes: dict[str, Check] = {}
        methods: dict[str, Any] = {}
        for name in typing_extensions.get_protocol_members(cls):
            if name in hints:
                attributes[name] = self.check(_unwrapped(hints[name]))
                continue
            match inspect.getattr_static(cls, name):
                case property() as member:
                    returned = typing_extensions.get_type_hints(member.fget)
                    attributes[name] = self.check(returned["return"]) if "return" in returned else ANYTHING
                case member:
                    methods[name] = member
        return OfProtocol(class_name(cls), _methods_only(cls, methods), methods, attributes)


def _methods_only(cls: type, methods: Mapping[str, Any]) -> Any:
    # Attributes are checked here: typeguard would take True for an int, and stumbles over recursive aliases.
    return types.new_class(class_name(cls), (Protocol,), exec_body=lambda namespace: namespace.update(methods))


def _wrapped_in(hint: Any, wrapper: Any) -> bool:
    while (origin := get_origin(hint)) in _wrappers:
        if origin is wrapper:
            return True
        hint = get_args(hint)[0]
    return False


def _unwrapped(hint: Any) -> Any:
    while get_origin(hint) in _wrappers:
        hint = get_args(hint)[0]
    return Any if hint is ClassVar else hint


def _of_type(hint: Any, argument: Any) -> Check:
    classes = _classes(argument)
    if any(typing_extensions.is_protocol(cls) for cls in classes):
        return ByTypeguard(describe(hint), type[Union[classes]], mocks=False)  # noqa: UP007 - as many as there are
    return OfType(describe(hint), classes)


def _classes(hint: Any) -> tuple[type, ...]:
    if hint is Any:
        return (object,)
    if isinstance(hint, TypeVar):
        return _classes(_bound(hint))
    if get_origin(hint) is Annotated:
        return _classes(get_args(hint)[0])
    if get_origin(hint) in _unions:
        return tuple(cls for arg in get_args(hint) for cls in _classes(arg))
    found = get_origin(hint) or hint
    if isinstance(found, type):
        return (found,)
    return _refuse(type[hint])


def _bound(variable: TypeVar) -> Any:
    if variable.__constraints__:
        return _resolve_where(Union[variable.__constraints__], variable)  # noqa: UP007 - as many as there are
    return Any if variable.__bound__ is None else _resolve_where(variable.__bound__, variable)


def _resolve_where(hint: Any, owner: Any) -> Any:
    return resolve_hints({"hint": hint}, vars(sys.modules[owner.__module__]), {})["hint"]


def _refuse(hint: Any) -> NoReturn:
    advice = "name the class instead" if hint is typing_extensions.Self else "use a type that says more, or Any"
    msg = f"{describe(hint)} cannot be checked at run time; {advice}"
    raise ContractDefinitionError(msg)
