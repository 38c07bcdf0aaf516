"""What every blob store must do, as tests against one that a subclass gives."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from stageflow.errors import BlobNotFoundError, InvalidValueError
from stageflow.ports import BlobStore

CONTAINER = "conformance"
_MEBIBYTE = 1024 * 1024

Operation = Callable[[BlobStore, str, str], object]

READING: dict[str, Operation] = {
    "read": lambda blobs, container, name: blobs.read(container, name),
    "read_chunks": lambda blobs, container, name: list(blobs.read_chunks(container, name)),
    "properties": lambda blobs, container, name: blobs.properties(container, name),
    "delete": lambda blobs, container, name: blobs.delete(container, name),
    "copy": lambda blobs, container, name: blobs.copy(container, name, CONTAINER, "target"),
}
NAMING: dict[str, Operation] = READING | {
    "exists": lambda blobs, container, name: blobs.exists(container, name),
    "write": lambda blobs, container, name: blobs.write(container, name, b"content"),
    "copy to": lambda blobs, container, name: blobs.copy(CONTAINER, "there", container, name),
}
FORBIDDEN_NAMES = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../outside",
    "a/../../outside",
    "a/..",
    "./a",
    "a/./b",
    "a//b",
    "a/",
    "a\\b",
    "..\\outside",
    "a\0b",
    "a\nb",
    "\ud800",
    "x" * 1025,
]
FORBIDDEN_CONTAINERS = [
    "",
    "ab",
    "..",
    ".",
    "../up",
    "UPPER",
    "a/b",
    "a\\b",
    "-abc",
    "abc-",
    "a--b",
    "a\0bc",
    "abc\n",
    "x" * 64,
    "$root",
]
STRANGE_NAMES = [
    "with space",
    "per%20cent%",
    "quest?ion#hash",
    "ünï/cödé €",
    "a.b/c..d/...e",
    "plus+and&",
    "~tilde",
    "q'uo\"te",
    ".hidden",
]


class BlobStoreConformance:
    """The suite of the ``BlobStore`` port; a subclass gives a fixture ``blobs`` with an empty store.

    ::

        class TestMyBlobs(BlobStoreConformance):
            @pytest.fixture
            def blobs(self) -> Iterator[BlobStore]: ...
    """

    @pytest.fixture
    def blobs(self) -> Iterator[BlobStore]:
        """Give an empty store that nobody else uses, and close it afterwards."""
        msg = f"{type(self).__name__} needs a fixture `blobs`; define one that yields an empty blob store"
        raise NotImplementedError(msg)

    @pytest.fixture
    def filled(self, blobs: BlobStore) -> BlobStore:
        """Give the store with one blob in it."""
        blobs.write(CONTAINER, "there", b"content")
        return blobs

    @pytest.mark.parametrize("content", [b"", b"\x00\xff\r\n", bytes(range(256)) * 1000], ids=["empty", "binary", "256 kB"])
    def test_a_blob_reads_back_as_it_was_written(self, blobs: BlobStore, content: bytes) -> None:
        """The bytes come back, all and unchanged."""
        written = blobs.write(CONTAINER, "dir/blob", content)
        assert blobs.read(CONTAINER, "dir/blob") == content
        assert (written.container, written.name, written.size_bytes) == (CONTAINER, "dir/blob", len(content))

    def test_a_large_blob_reads_back_whole_and_in_pieces(self, blobs: BlobStore) -> None:
        """Beyond the size of one request nothing changes."""
        content = b"0123456789abcdef" * (9 * _MEBIBYTE // 16) + b"tail"
        blobs.write(CONTAINER, "large", content)
        pieces = list(blobs.read_chunks(CONTAINER, "large"))
        assert b"".join(pieces) == content == blobs.read(CONTAINER, "large")
        assert max(map(len, pieces)) <= 4 * _MEBIBYTE

    @pytest.mark.parametrize(("chunk_bytes", "expected"), [(3, [b"abc", b"def", b"g"]), (7, [b"abcdefg"]), (100, [b"abcdefg"])])
    def test_chunks_have_the_size_asked_for(self, blobs: BlobStore, chunk_bytes: int, expected: list[bytes]) -> None:
        """Every piece but the last is full."""
        blobs.write(CONTAINER, "blob", b"abcdefg")
        assert list(blobs.read_chunks(CONTAINER, "blob", chunk_bytes=chunk_bytes)) == expected

    def test_an_empty_blob_has_no_chunks(self, blobs: BlobStore) -> None:
        """No piece is empty."""
        blobs.write(CONTAINER, "blob", b"")
        assert list(blobs.read_chunks(CONTAINER, "blob")) == []

    def test_chunks_of_no_size_are_refused(self, filled: BlobStore) -> None:
        """Pieces of nothing would never end."""
        with pytest.raises(InvalidValueError, match="chunk_bytes must be at least 1"):
            filled.read_chunks(CONTAINER, "there", chunk_bytes=0)

    def test_writing_again_replaces_the_blob(self, filled: BlobStore) -> None:
        """The newest content is the only one, and its etag tells it from the one before."""
        before = filled.properties(CONTAINER, "there")
        after = filled.write(CONTAINER, "there", b"new")
        assert filled.read(CONTAINER, "there") == b"new"
        assert before.etag != after.etag
        assert [blob.etag for blob in filled.list_blobs(CONTAINER)] == [after.etag]

    @pytest.mark.parametrize("content_type", ["text/csv", "application/octet-stream", "image/png"])
    @pytest.mark.parametrize("name", ["table.csv", "noname", "dir/pic.png"])
    def test_the_content_type_is_kept(self, blobs: BlobStore, name: str, content_type: str) -> None:
        """What the writer says counts, whatever the name looks like."""
        blobs.write(CONTAINER, name, b"1", content_type="text/plain")
        blobs.write(CONTAINER, name, b"22", content_type=content_type)
        assert blobs.properties(CONTAINER, name).content_type == content_type

    def test_written_listed_and_asked_for_properties_are_the_same(self, blobs: BlobStore) -> None:
        """One blob has one set of properties."""
        written = blobs.write(CONTAINER, "dir/blob", b"1234", content_type="text/plain")
        assert blobs.properties(CONTAINER, "dir/blob") == written
        assert list(blobs.list_blobs(CONTAINER)) == [written]

    def test_a_listing_is_in_name_order_over_folders(self, blobs: BlobStore) -> None:
        """The order is that of whole names, so that a planner that lists twice plans the same tasks."""
        names = ["b", "a/z", "a-b", "a/b/c", "a.txt", "a0", "B", "a/b.c", "ab/c", "é"]
        for name in names:
            blobs.write(CONTAINER, name, b"")
        assert [blob.name for blob in blobs.list_blobs(CONTAINER)] == sorted(names)

    @pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/b/", "a/b/c", "x", "a/b/c/d"])
    def test_a_prefix_selects_by_the_start_of_the_name(self, blobs: BlobStore, prefix: str) -> None:
        """A prefix is text and may end within a part."""
        names = ["a-b", "a/b/c", "a/b/d", "a/bc", "ab/1", "b/a"]
        for name in names:
            blobs.write(CONTAINER, name, b"")
        listed = [blob.name for blob in blobs.list_blobs(CONTAINER, prefix=prefix)]
        assert listed == [name for name in names if name.startswith(prefix)]

    def test_a_container_that_was_emptied_lists_nothing(self, filled: BlobStore) -> None:
        """Empty is an answer."""
        filled.delete(CONTAINER, "there")
        assert list(filled.list_blobs(CONTAINER)) == []

    def test_a_container_that_does_not_exist_is_not_an_empty_one(self, filled: BlobStore) -> None:
        """A misspelled container must not look like one without work."""
        with pytest.raises(BlobNotFoundError, match="no-such-container"):
            list(filled.list_blobs("no-such-container"))

    @pytest.mark.parametrize("operation", READING.values(), ids=READING.keys())
    @pytest.mark.parametrize("container", [CONTAINER, "no-such-container"])
    @pytest.mark.parametrize("name", ["missing", "dir", "there/below"])
    def test_a_missing_blob_is_an_error_that_names_it(
        self, filled: BlobStore, operation: Operation, container: str, name: str
    ) -> None:
        """Which blob of which container is missing is said, for a folder of blobs and a part below a blob as well."""
        filled.write(CONTAINER, "dir/below", b"")
        with pytest.raises(BlobNotFoundError) as caught:
            operation(filled, container, name)
        assert f"{name!r}" in str(caught.value)
        assert f"{container!r}" in str(caught.value)

    def test_a_blob_exists_from_its_write_to_its_deletion(self, filled: BlobStore) -> None:
        """Existence is asked for without an error."""
        assert filled.exists(CONTAINER, "there")
        filled.delete(CONTAINER, "there")
        assert not filled.exists(CONTAINER, "there")
        assert not filled.exists("no-such-container", "there")
        assert not filled.exists(CONTAINER, "there/below")

    def test_a_name_can_become_a_folder_once_its_blob_is_deleted(self, filled: BlobStore) -> None:
        """Deleting leaves nothing behind that is in the way."""
        filled.delete(CONTAINER, "there")
        filled.write(CONTAINER, "there/below/deep", b"1")
        filled.delete(CONTAINER, "there/below/deep")
        filled.write(CONTAINER, "there", b"2")
        assert [blob.name for blob in filled.list_blobs(CONTAINER)] == ["there"]

    def test_a_copy_has_the_content_and_the_type_in_a_new_container_as_well(self, blobs: BlobStore) -> None:
        """The target's container is created, the source stays."""
        blobs.write(CONTAINER, "dir/source", b"content", content_type="text/plain")
        copied = blobs.copy(CONTAINER, "dir/source", "other-container", "target/copy")
        assert (copied.container, copied.name, copied.size_bytes) == ("other-container", "target/copy", 7)
        assert copied.content_type == "text/plain"
        assert blobs.read("other-container", "target/copy") == blobs.read(CONTAINER, "dir/source") == b"content"
        assert blobs.properties("other-container", "target/copy") == copied

    def test_a_copy_replaces_what_is_there(self, filled: BlobStore) -> None:
        """Copying is a write."""
        filled.write(CONTAINER, "target", b"something longer")
        filled.copy(CONTAINER, "there", CONTAINER, "target")
        assert filled.read(CONTAINER, "target") == b"content"

    @pytest.mark.parametrize("name", STRANGE_NAMES)
    def test_strange_names_are_names(self, filled: BlobStore, name: str) -> None:
        """What a file can be called, a blob can, in each operation."""
        filled.write(CONTAINER, name, b"strange")
        filled.copy(CONTAINER, name, CONTAINER, f"copies/{name}")
        assert filled.read(CONTAINER, f"copies/{name}") == b"strange"
        assert filled.properties(CONTAINER, name).name == name
        assert name in [blob.name for blob in filled.list_blobs(CONTAINER)]
        filled.delete(CONTAINER, name)
        assert not filled.exists(CONTAINER, name)

    @pytest.mark.parametrize("operation", NAMING.values(), ids=NAMING.keys())
    def test_names_that_could_lead_elsewhere_are_refused(self, filled: BlobStore, operation: Operation) -> None:
        """No operation takes a name that means another blob, or no blob, in some store."""
        for name in FORBIDDEN_NAMES:
            with pytest.raises(InvalidValueError, match="is refused"):
                operation(filled, CONTAINER, name)
        assert [blob.name for blob in filled.list_blobs(CONTAINER)] == ["there"]

    @pytest.mark.parametrize("operation", NAMING.values(), ids=NAMING.keys())
    def test_container_names_that_some_store_refuses_are_refused_by_all(self, filled: BlobStore, operation: Operation) -> None:
        """A workflow that was tried on one store works on the others."""
        for container in FORBIDDEN_CONTAINERS:
            with pytest.raises(InvalidValueError, match="container name"):
                operation(filled, container, "there")
            with pytest.raises(InvalidValueError, match="container name"):
                filled.list_blobs(container)

    def test_a_reader_never_sees_a_half_written_blob(self, blobs: BlobStore) -> None:
        """While rivals replace a blob, every read gives one of the versions, whole."""
        versions = [bytes([letter]) * 200_000 for letter in b"abcd"]
        blobs.write(CONTAINER, "busy", versions[0])
        with ThreadPoolExecutor(4) as pool:
            writes = [pool.submit(blobs.write, CONTAINER, "busy", versions[number % 4]) for number in range(20)]
            reads = [pool.submit(blobs.read, CONTAINER, "busy") for _ in range(20)]
        assert len([write.result() for write in writes]) == 20
        assert {read.result() in versions for read in reads} == {True}
