"""Models that exist only as their annotations say."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ValidationError


class ValidatedModel(BaseModel):
    """A model whose every way of being made leads through its validation."""

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:  # type: ignore[override]  # the plugin's own
        """Validate as the constructor does."""
        return cls(**values)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, with some fields changed; a changed one is validated as by the constructor.

        Raises:
            pydantic.ValidationError: The fields are not this model's.
        """
        copy = super().model_copy(deep=deep)
        return copy if not update else type(self).model_validate({**dict(copy), **update})


def first_fault(error: ValidationError) -> str:
    """Return the first field that is not as annotated, and what is wrong with it; nothing of its value."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the whole"
    return f"{field}: {first['msg']}"
