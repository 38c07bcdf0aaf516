"""Checks of what a value can do: protocols, callables and files. typeguard takes signatures apart; its holes are closed here.

typeguard lets every mock pass, ignores the properties of a protocol, and takes ``True`` for an ``int`` attribute.
"""

import inspect
from collections.abc import Collection, Mapping
from typing import Any
from weakref import WeakSet

from stageflow.contracts.checks import Check, Finding, class_name

_mock_fault = "a mock answers to every name; pass a real object, or a fake that has the methods"


class ByTypeguard(Check):
    """What typeguard checks in full: the arguments that a callable takes, and files."""

    def __init__(self, expected: str, hint: Any, *, mocks: bool) -> None:
        super().__init__(expected)
        self._hint = hint
        self._mocks = mocks

    def accepts(self, value: Any) -> bool:
        """Say whether typeguard finds no fault."""
        return not self._fault(value)

    def find(self, value: Any, path: str) -> Finding:
        """Give typeguard's reason."""
        return Finding(path, self.expected, value, class_name(type(value)), self._fault(value))

    def _fault(self, value: Any) -> str:
        if not self._mocks and _is_mock(type(value)):
            return _mock_fault
        return _typeguard_fault(value, self._hint)


class OfProtocol(Check):
    """A ``Protocol``: each method is there and takes the same arguments, each attribute is there and has its type."""

    def __init__(self, expected: str, shape: Any, methods: Collection[str], attributes: Mapping[str, Check]) -> None:
        """Take the protocol apart.

        Args:
            expected: The protocol's name.
            shape: A protocol of the methods alone.
            methods: The names of the methods.
            attributes: What each attribute and property must be.
        """
        super().__init__(expected)
        self._shape = shape
        self._methods = sorted(methods)
        self._attributes = dict(attributes)
        # Classes whose methods fit. To look again costs 50 microseconds, and only attributes differ between instances.
        self._fitting: WeakSet[type] = WeakSet()

    def accepts(self, value: Any) -> bool:
        """Say whether no member is missing or wrong."""
        return self._finding(value, self.expected) is None

    def find(self, value: Any, path: str) -> Finding:
        """Name the missing or wrong member."""
        return self._finding(value, path) or super().find(value, path)

    def _finding(self, value: Any, path: str) -> Finding | None:
        kind = type(value)
        if kind not in self._fitting and (fault := self._method_fault(value, kind)):
            return Finding(path, self.expected, value, class_name(kind), fault)
        for name, check in self._attributes.items():
            try:
                member = _member(value, name)
            except AttributeError:
                return Finding(path, self.expected, value, class_name(kind), f"it has no attribute {name!r}")
            if not check.accepts(member):
                return check.find(member, f"{path}.{name}")
        return None

    def _method_fault(self, value: Any, kind: type) -> str:
        if _is_mock(kind):
            return _mock_fault
        for name in self._methods:
            try:
                member = _member(value, name)
            except AttributeError:
                return f"it has no method {name!r}"
            if not callable(member):
                return f"its {name!r} is not a method"
        on_class = all(any(name in vars(base) for base in kind.__mro__) for name in self._methods)
        if issubclass(kind, type):
            return "" if on_class else "it is a class; pass an instance of it"
        # typeguard compares signatures through the class; a function that was set on one instance is beyond it.
        if not on_class:
            return ""
        if self._methods and (fault := _typeguard_fault(value, self._shape)):
            return fault
        self._fitting.add(kind)
        return ""


def _member(value: Any, name: str) -> Any:
    # First without `__getattr__`: an object that answers to every name has no shape.
    inspect.getattr_static(value, name)
    return getattr(value, name)


def _is_mock(kind: type) -> bool:
    return any(base.__module__ == "unittest.mock" for base in kind.__mro__)


def _typeguard_fault(value: Any, hint: Any) -> str:
    # Imported on first need: most programs never need it, and it brings unittest.mock and more.
    from typeguard import TypeCheckError, check_type  # noqa: PLC0415

    try:
        check_type(value, hint)
    except TypeCheckError as error:
        return str(error)
    return ""
