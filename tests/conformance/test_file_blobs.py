"""The blob store on a folder passes the suite, and guards what lies outside of its folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stageflow.backends.files import FileBlobStore
from stageflow.errors import BlobError, BlobNotFoundError, InvalidValueError
from stageflow.ports import BlobStore
from stageflow.testing.conformance.blobs import CONTAINER, NAMING, BlobStoreConformance, Operation


class TestFileBlobs(BlobStoreConformance):
    """The suite of the port."""

    @pytest.fixture
    def blobs(self, tmp_path: Path) -> BlobStore:
        """Give a store on a folder that does not exist yet."""
        return FileBlobStore(tmp_path / "not yet" / "there")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Give a folder beside the store's, with a file in it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious").write_bytes(b"precious")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> FileBlobStore:
    """Give a store with one blob."""
    store = FileBlobStore(tmp_path / "store")
    store.write(CONTAINER, "there", b"content")
    return store


@pytest.mark.parametrize("operation", NAMING.values(), ids=NAMING.keys())
@pytest.mark.parametrize("name", ["link/precious", "link/new", "file-link", "loop/blob"])
def test_a_symbolic_link_leads_no_operation_out_of_the_folder(
    store: FileBlobStore, tmp_path: Path, outside: Path, operation: Operation, name: str
) -> None:
    """Links to folders, to files and to themselves are refused, and what they lead to stays as it is."""
    root = tmp_path / "store" / CONTAINER
    (root / "link").symlink_to(outside)
    (root / "file-link").symlink_to(outside / "precious")
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(InvalidValueError, match="symbolic link"):
        operation(store, CONTAINER, name)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"precious": b"precious"}


def test_a_container_that_is_a_symbolic_link_is_none(store: FileBlobStore, tmp_path: Path, outside: Path) -> None:
    """The link is refused by name and does not exist for a listing."""
    (tmp_path / "store" / "linked").symlink_to(outside)
    with pytest.raises(InvalidValueError, match="symbolic link"):
        store.write("linked", "precious", b"gone")
    with pytest.raises(BlobNotFoundError, match="linked"):
        list(store.list_blobs("linked"))
    assert (outside / "precious").read_bytes() == b"precious"


def test_the_stores_own_folder_may_be_no_symbolic_link(tmp_path: Path, outside: Path) -> None:
    """Half-written files and types of content stay inside as well."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".stageflow").symlink_to(outside)
    with pytest.raises(InvalidValueError, match="symbolic link"):
        FileBlobStore(tmp_path / "store").write(CONTAINER, "blob", b"content")
    assert [path.name for path in outside.iterdir()] == ["precious"]


def test_links_and_pipes_are_not_listed(store: FileBlobStore, tmp_path: Path, outside: Path) -> None:
    """Only files that can be read as blobs are blobs."""
    root = tmp_path / "store" / CONTAINER
    (root / "link").symlink_to(outside)
    (root / "file-link").symlink_to(outside / "precious")
    os.mkfifo(root / "pipe")
    assert [blob.name for blob in store.list_blobs(CONTAINER)] == ["there"]
    with pytest.raises(BlobNotFoundError, match="'pipe'"):
        store.read(CONTAINER, "pipe")


def test_the_folder_itself_may_be_reached_by_a_symbolic_link(tmp_path: Path) -> None:
    """Where the user's own path leads is the user's choice."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    FileBlobStore(tmp_path / "link").write(CONTAINER, "blob", b"content")
    assert (tmp_path / "real" / CONTAINER / "blob").read_bytes() == b"content"


def test_naming_a_folder_makes_nothing(tmp_path: Path) -> None:
    """A store is opened without a trace; only a write leaves one."""
    store = FileBlobStore(tmp_path / "new")
    assert not store.exists(CONTAINER, "blob")
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_blobs(tmp_path: Path) -> None:
    """A folder that was there before is a container; the type of content is told by the name."""
    (tmp_path / "maps" / "sheets").mkdir(parents=True)
    (tmp_path / "maps" / "sheets" / "one.png").write_bytes(b"picture")
    (listed,) = FileBlobStore(tmp_path).list_blobs("maps")
    assert (listed.name, listed.size_bytes, listed.content_type) == ("sheets/one.png", 7, "image/png")


def test_a_file_that_others_replaced_has_the_type_of_its_name_again(tmp_path: Path) -> None:
    """What was noted for one version is not said of another."""
    store = FileBlobStore(tmp_path)
    store.write("maps", "one.png", b"picture", content_type="text/plain")
    (tmp_path / "maps" / "one.png").unlink()
    (tmp_path / "maps" / "one.png").write_bytes(b"another picture")
    assert store.properties("maps", "one.png").content_type == "image/png"


def test_a_name_is_a_blob_or_a_folder_but_not_both(store: FileBlobStore) -> None:
    """What a folder cannot hold is said, and what is there stays."""
    store.write(CONTAINER, "dir/below", b"below")
    with pytest.raises(InvalidValueError, match="cannot hold both"):
        store.write(CONTAINER, "dir", b"content")
    with pytest.raises(InvalidValueError, match="cannot hold both"):
        store.write(CONTAINER, "there/below", b"content")
    assert store.read(CONTAINER, "dir/below") == b"below"
    assert store.read(CONTAINER, "there") == b"content"


def test_a_write_leaves_no_half_written_file_behind(store: FileBlobStore, tmp_path: Path) -> None:
    """Neither after a success nor after a refusal."""
    store.write(CONTAINER, "dir/below", b"content", content_type="text/plain")
    with pytest.raises(InvalidValueError, match="cannot hold both"):
        store.write(CONTAINER, "dir", b"content")
    assert list((tmp_path / "store" / ".stageflow" / "writing").iterdir()) == []


def test_a_writer_that_is_killed_leaves_the_old_blob(store: FileBlobStore, tmp_path: Path) -> None:
    """A blob is replaced by one rename; before it, nothing of the new content is in the container."""
    killed = subprocess.run(  # noqa: S603 - this Python, this text
        [sys.executable, "-c", _KILLED_BEFORE_THE_RENAME, str(tmp_path / "store")], check=False, capture_output=True, timeout=60
    )
    assert killed.returncode == 9, killed.stderr
    assert store.read(CONTAINER, "there") == b"content"
    assert [blob.name for blob in store.list_blobs(CONTAINER)] == ["there"]


_KILLED_BEFORE_THE_RENAME = f"""
import os, sys
from pathlib import Path
from stageflow.backends.files import FileBlobStore
Path.replace = lambda path, target: os._exit(9)
FileBlobStore(sys.argv[1]).write({CONTAINER!r}, "there", b"new content")
"""


def test_a_name_that_the_system_refuses_is_a_clear_error(store: FileBlobStore) -> None:
    """A part of more than 255 bytes is no file's name."""
    with pytest.raises(BlobError, match="length of the name"):
        store.write(CONTAINER, "x" * 300, b"")


def test_a_file_whose_name_is_no_text_is_a_clear_error(store: FileBlobStore, tmp_path: Path) -> None:
    """It cannot be named in a message or a row, so it is reported and not left out."""
    (Path(os.fsdecode(os.fsencode(tmp_path / "store" / CONTAINER) + b"/\xff"))).touch()
    with pytest.raises(BlobError, match="not UTF-8"):
        list(store.list_blobs(CONTAINER))


def test_the_address_is_that_of_the_folder(store: FileBlobStore, tmp_path: Path) -> None:
    """It can be shown, and opened in a browser."""
    assert store.url == (tmp_path / "store").as_uri()
    assert repr(store) == f"FileBlobStore({str(tmp_path / 'store')!r})"
