"""Payloads that are too large for a row: what the row holds in their place, and how an app keeps them."""

import re
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from stageflow.contracts.base import INLINE_BYTES, JsonObject, LateContract
from stageflow.contracts.blob import validate_container_name
from stageflow.contracts.ids import JobId
from stageflow.contracts.json_text import read_json_object
from stageflow.errors import InvalidValueError

# What contracts are stored as are JSON objects. This is a JSON string: no user's value can be taken for one.
_MARK: Final = '"stageflow-payload:'
_form: Final = re.compile(
    r'"stageflow-payload:1:(?P<size_bytes>[1-9][0-9]{0,17}):(?P<sha256>[0-9a-f]{64}):(?P<job_id>[0-9a-f]{64})/(?P=sha256)"'
)
STAGE_RESULT: Final = "stage_results."
"""In front of a stage's key, the name under which a job's ``shelved`` has the result of the stage."""
_KIB: Final = 1024


class PayloadReference(LateContract):
    """What a row holds in place of a payload that lies in the blob store: equal references mean equal content.

    Attributes:
        size_bytes: Length of the content.
        sha256: Its checksum, in hex.
        job_id: The job that it belongs to.
    """

    size_bytes: int = Field(ge=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    job_id: JobId

    @property
    def name(self) -> str:
        """The blob's name; all payloads of a job have its id in front."""
        return f"{self.job_id}/{self.sha256}"

    @property
    def size(self) -> str:
        """The length for people."""
        size, unit = float(self.size_bytes), "bytes"
        for larger in ("KiB", "MiB", "GiB"):
            if size < _KIB:
                break
            size, unit = size / _KIB, larger
        return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"

    def to_text(self) -> str:
        """Return the JSON string that the row holds."""
        return f'{_MARK}1:{self.size_bytes}:{self.sha256}:{self.name}"'

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what :meth:`to_text` wrote.

        Raises:
            pydantic.ValidationError: It has another form.
        """
        found = _form.fullmatch(text)
        fields = {} if found is None else found.groupdict()
        return cls.from_fields({**fields, "size_bytes": int(fields["size_bytes"])} if fields else {})

    def to_preview(self) -> JsonObject:
        """Return what lists show in place of the value."""
        return {"stageflow-payload": f"{self.size} in the blob store, {self.name}"}


class PayloadOptions(LateContract):
    """How an app keeps payloads that are too large for a row.

    Attributes:
        container: The blob container that holds them and nothing else; one for each store.
        inline_bytes: Up to so many bytes of JSON a payload stays in its row.
        max_bytes: More are refused wherever they would go.
        patience_seconds: How long a worker waits, with its result in hand, for a blob store that does not answer.
        grace_seconds: A blob that no job owns is an orphan when it is older; it must be longer than any transaction in which an
            application submits jobs.
    """

    container: Annotated[str, AfterValidator(validate_container_name)] = "stageflow-payloads"
    inline_bytes: int = Field(default=INLINE_BYTES, ge=1, le=INLINE_BYTES)
    max_bytes: int = Field(default=268_435_456, ge=1, le=2_147_483_648)
    patience_seconds: float = Field(default=30.0, ge=0, le=3600)
    grace_seconds: float = Field(default=3600.0, ge=0, le=31_536_000)

    @model_validator(mode="after")
    def _most_is_not_below_the_inline_limit(self) -> Self:
        if self.max_bytes < self.inline_bytes:
            msg = f"max_bytes {self.max_bytes} is below inline_bytes {self.inline_bytes}; raise it"
            raise ValueError(msg)
        return self


def is_reference(text: str | None) -> bool:
    """Return whether a stored text stands for a payload in the blob store."""
    return text is not None and text.startswith(_MARK)


def read_object_or_preview(text: str, name: str) -> JsonObject:
    """Return the object that a stored text holds, or the preview of one in the blob store.

    Raises:
        InvalidValueError: It is neither.
    """
    if not is_reference(text):
        return read_json_object(text, name)
    try:
        return PayloadReference.from_text(text).to_preview()
    except ValidationError as error:
        msg = f"{name} is no reference to a payload that this release can read: {text[:200]}"
        raise InvalidValueError(msg) from error


def shelved(**columns: str | None) -> dict[str, str]:
    """Return those columns of a row that hold references."""
    return {name: text for name, text in columns.items() if text is not None and text.startswith(_MARK)}


def shelved_stage_result(stage_number: int) -> str:
    """Return the name under which a job's ``shelved`` has the result of a stage."""
    return f"{STAGE_RESULT}{stage_number}"


def shelved_stages(payloads: dict[str, str]) -> dict[int, str]:
    """Return the references to stage results among a job's, by stage number."""
    return {int(name.removeprefix(STAGE_RESULT)): text for name, text in payloads.items() if name.startswith(STAGE_RESULT)}
