"""What a blob store tells of its blobs, and which names every blob store takes."""

import re
from typing import Final

from pydantic import Field

from stageflow.contracts.base import JsonObject, LateContract, UtcDatetime
from stageflow.errors import InvalidValueError

_container_name = re.compile(r"(?=.{3,63}\Z)[a-z0-9](?:-?[a-z0-9])*")
_control_character = re.compile(r"[\x00-\x1f\x7f]")
_longest_blob_name: Final = 1024


class BlobProperties(LateContract):
    """A blob without its content.

    Attributes:
        name: Path within the container, parts separated by ``/``.
        size_bytes: Length of the content.
    """

    container: str = Field(min_length=1)
    name: str = Field(min_length=1)
    size_bytes: int = Field(ge=0)
    content_type: str = "application/octet-stream"
    etag: str
    last_modified: UtcDatetime
    metadata: JsonObject = Field(default_factory=dict)


def validate_container_name(container: str) -> str:
    """Return ``container`` if every blob store takes it as a container's name.

    Raises:
        InvalidValueError: It is not 3 to 63 of ``a-z``, ``0-9`` and single hyphens between them.
    """
    if _container_name.fullmatch(container) is None:
        msg = (
            f"the container name {container[:80]!r} must be 3 to 63 of a-z, 0-9 and single hyphens between them; "
            "choose such a name"
        )
        raise InvalidValueError(msg)
    return container


def validate_blob_name(name: str) -> str:
    """Return ``name`` if it names one blob in every blob store, and nothing outside of its container in any.

    Raises:
        InvalidValueError: It is empty or over 1,024 characters, begins or ends with ``/``, has an empty part, a part ``.``
            or ``..``, a backslash, a control character, or no UTF-8 form.
    """
    match name.split("/"):
        case _ if len(name) > _longest_blob_name:
            reason = f"it has more than {_longest_blob_name} characters"
        case parts if "" in parts:
            reason = "it is empty, or has an empty part before, between or after its slashes"
        case parts if "." in parts or ".." in parts:
            reason = "it has a part that stands for another folder"
        case _ if "\\" in name:
            reason = "it has a backslash"
        case _ if _control_character.search(name) is not None:
            reason = "it has a control character"
        case _ if not _is_utf8(name):
            reason = "it has characters that UTF-8 cannot express"
        case _:
            return name
    msg = f"the blob name {name[:80]!r} is refused: {reason}; use parts separated by single slashes, such as 'tiles/0-1.bin'"
    raise InvalidValueError(msg)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
