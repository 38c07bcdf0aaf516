"""What a blob store tells of its blobs."""

from pydantic import Field

from stageflow.contracts.base import Contract, JsonObject, UtcDatetime


class BlobProperties(Contract):
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
