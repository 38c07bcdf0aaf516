"""A folder as a ``BlobStore``: each container a folder in it, each blob a file."""

import errno
import hashlib
import json
import mimetypes
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from stageflow.contracts.base import LateContract
from stageflow.contracts.blob import BlobProperties, validate_blob_name, validate_container_name
from stageflow.contracts.json_text import read_json_object, require_size
from stageflow.errors import BlobError, BlobNotFoundError, BlobStoreUnreachableError, InvalidValueError

DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"
# No container's name begins with a dot. Inside the same folder, so that moving a finished file out of it is one rename.
_OWN_FOLDER: Final = ".stageflow"
_MOVE_ATTEMPTS: Final = 10
_KEPT_BYTES: Final = 65_536
"""The most that is read of a file that keeps a type."""


class _KeptType(LateContract):
    """What is kept beside a blob: the type of the content that has this tag."""

    etag: str
    content_type: str


class FileBlobStore:
    """The blobs in a folder. Safe to use from several threads and processes.

    A write is seen whole or not at all, survives a crash of the machine once it returned, and a read gives one version.
    Nothing outside of the folder is touched: symbolic links below it are neither followed nor listed. Files that others put
    there are blobs like any other. The type of content is kept beside the blobs where a file's name does not tell it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Name the folder; it is made on the first write."""
        self._folder = Path(folder).resolve()

    @property
    def url(self) -> str:
        """The address of the store."""
        return self._folder.as_uri()

    def __repr__(self) -> str:
        return f"FileBlobStore({str(self._folder)!r})"

    def list_blobs(self, container: str, *, prefix: str = "") -> Iterator[BlobProperties]:
        """Yield the blobs of a container whose name starts with ``prefix``, in name order, folder by folder.

        Raises:
            BlobNotFoundError: There is no such container; raised when the first blob is asked for.
        """
        validate_container_name(container)
        return self._listed(container, prefix)

    def read(self, container: str, name: str) -> bytes:
        """Return the content of a blob.

        Raises:
            BlobNotFoundError: It is not there.
        """
        path = self._path(container, name)
        with self._disk(container, name):
            return _require_file(path).read_bytes()

    def read_chunks(self, container: str, name: str, *, chunk_bytes: int = 4_194_304) -> Iterator[bytes]:
        """Yield the content of a blob in pieces of ``chunk_bytes``, the last one shorter, without holding it whole.

        Raises:
            BlobNotFoundError: It is not there; raised when the first piece is asked for.
        """
        if chunk_bytes < 1:
            msg = f"chunk_bytes must be at least 1, got {chunk_bytes}; leave it out for pieces of 4 MiB"
            raise InvalidValueError(msg)
        self._path(container, name)
        return self._chunks(container, name, chunk_bytes)

    def write(self, container: str, name: str, content: bytes, *, content_type: str = DEFAULT_CONTENT_TYPE) -> BlobProperties:
        """Write a blob whole; replaces one of the same name, creates the container where it is missing.

        Raises:
            InvalidValueError: The name, or one that it begins with, is already that of a folder or a file: a folder cannot
                hold both ``a`` and ``a/b``.
        """
        self._path(container, name)
        return self._write(container, name, iter((content,)), content_type)

    def copy(self, container: str, name: str, target_container: str, target_name: str) -> BlobProperties:
        """Copy a blob within the store, content type included.

        Raises:
            BlobNotFoundError: The source is not there.
        """
        self._path(target_container, target_name)
        content_type = self.properties(container, name).content_type
        return self._write(target_container, target_name, self.read_chunks(container, name), content_type)

    def exists(self, container: str, name: str) -> bool:
        """Return whether the blob is there."""
        path = self._path(container, name)
        with self._disk(container, name):
            return path.is_file()

    def delete(self, container: str, name: str) -> None:
        """Delete a blob, and the folders that it leaves empty.

        Raises:
            BlobNotFoundError: It is not there.
        """
        path = self._path(container, name)
        with self._disk(container, name):
            _require_file(path).unlink()
            self._type_path(container, name).unlink(missing_ok=True)
            _remove_empty_folders(path.parent, self._folder / container)

    def properties(self, container: str, name: str) -> BlobProperties:
        """Return a blob's properties.

        Raises:
            BlobNotFoundError: It is not there.
        """
        path = self._path(container, name)
        with self._disk(container, name):
            return self._properties(container, name, _require_file(path).stat())

    def _path(self, container: str, name: str) -> Path:
        """Return where a blob lies, which is below its container's folder by name and by fact.

        Raises:
            InvalidValueError: The names say otherwise, or a symbolic link leads elsewhere.
        """
        path = self._folder / validate_container_name(container) / validate_blob_name(name)
        with self._disk(container, name):
            return _require_no_link(path, f"blob {name!r} of container {container!r}")

    def _own_folder(self, *parts: str) -> Path:
        """Return a folder for what belongs to the store itself."""
        path = self._folder.joinpath(_OWN_FOLDER, *parts)
        return _require_no_link(path, "the folder of what the store keeps for itself")

    def _type_path(self, container: str, name: str) -> Path:
        return self._own_folder("types", container) / f"{hashlib.sha256(name.encode()).hexdigest()}.json"

    @contextmanager
    def _disk(self, container: str, name: str | None) -> Iterator[None]:
        """Turn the system's errors into those of a blob store."""
        subject = f"container {container!r}" if name is None else f"blob {name!r} of container {container!r}"
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            msg = f"{subject} does not exist in {self._folder}; check both names, or write the blob first"
            raise BlobNotFoundError(msg) from error
        except PermissionError as error:
            msg = f"{subject} in {self._folder} cannot be used: {error.strerror}; give this process permission to the folder"
            raise BlobStoreUnreachableError(msg) from error
        except OSError as error:
            msg = f"{subject} in {self._folder} cannot be used: {error.strerror}; check the disk and the length of the name"
            raise BlobError(msg) from error

    def _listed(self, container: str, prefix: str) -> Iterator[BlobProperties]:
        with self._disk(container, None):
            root = self._folder / container
            if root.is_symlink() or not root.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(root))
        for name in self._names(container, root, "", prefix):
            try:
                yield self._properties(container, name, (root / name).stat(follow_symlinks=False))
            except FileNotFoundError:
                continue  # deleted since the folder was read
            except UnicodeEncodeError as error:
                msg = f"{root} holds a file whose name is not UTF-8: {name!r}; rename it"
                raise BlobError(msg) from error

    def _names(self, container: str, folder: Path, base: str, prefix: str) -> Iterator[str]:
        """Yield names in order: a folder sorts by its name with the slash, as the names of its blobs do."""
        try:
            with self._disk(container, None), os.scandir(folder) as entries:
                found = sorted(
                    base + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
                )
        except BlobNotFoundError:
            return  # deleted since its parent was read
        for name in found:
            if name.endswith("/"):
                if name.startswith(prefix) or prefix.startswith(name):
                    yield from self._names(container, folder / name.removeprefix(base), name, prefix)
            elif name.startswith(prefix):
                yield name

    def _chunks(self, container: str, name: str, chunk_bytes: int) -> Iterator[bytes]:
        with self._disk(container, name):
            file = _require_file(self._path(container, name)).open("rb")
        with file:
            while piece := file.read(chunk_bytes):
                yield piece

    def _write(self, container: str, name: str, pieces: Iterator[bytes], content_type: str) -> BlobProperties:
        path = self._path(container, name)
        with self._disk(container, name):
            finished = self._write_aside(pieces)
            try:
                written = finished.stat()
                # Told before the blob is there: what names a file that never came is passed over when it is read.
                self._keep_type(container, name, _etag(written), content_type)
                self._move(finished, path, container, name)
            finally:
                finished.unlink(missing_ok=True)
            return self._properties(container, name, written)

    def _write_aside(self, pieces: Iterator[bytes]) -> Path:
        """Write a file that no container has, down to the disk."""
        folder = self._own_folder("writing")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / secrets.token_hex(16)
        try:
            with path.open("xb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _move(self, finished: Path, path: Path, container: str, name: str) -> None:
        """Give a finished file its name, again where a rival's deletion takes the folder away in between."""
        for attempt in range(1, _MOVE_ATTEMPTS + 1):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                finished.replace(path)
            except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
                if isinstance(error, PermissionError) and not path.is_dir():
                    raise
                msg = (
                    f"blob {name!r} of container {container!r} cannot be written in {self._folder}: a folder cannot hold both "
                    "'a' and 'a/b', and here one of them is there; choose another name"
                )
                raise InvalidValueError(msg) from error
            except FileNotFoundError:
                if attempt == _MOVE_ATTEMPTS:
                    raise
            else:
                break
        for folder in path.parents:
            _flush_folder(folder)
            if folder == self._folder:
                break

    def _keep_type(self, container: str, name: str, etag: str, content_type: str) -> None:
        path = self._type_path(container, name)
        if content_type == _guessed_type(name):
            path.unlink(missing_ok=True)
            return
        text = json.dumps({"etag": etag, "content_type": content_type})
        finished = self._write_aside(iter((text.encode(),)))
        path.parent.mkdir(parents=True, exist_ok=True)
        finished.replace(path)

    def _properties(self, container: str, name: str, status: os.stat_result) -> BlobProperties:
        etag, content_type = _etag(status), _guessed_type(name)
        try:
            kept = read_kept_type(self._type_path(container, name))
        except FileNotFoundError:
            pass  # the name tells the type
        else:
            content_type = kept.content_type if kept.etag == etag else content_type
        return BlobProperties(
            container=container,
            name=name,
            size_bytes=status.st_size,
            content_type=content_type,
            etag=etag,
            last_modified=datetime.fromtimestamp(status.st_mtime, UTC),
        )


def read_kept_type(path: Path) -> _KeptType:
    """Read the file that keeps the type of a blob's content.

    Raises:
        BlobError: It is damaged.
        FileNotFoundError: There is none.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_KEPT_BYTES + 1)
        require_size(text, _KEPT_BYTES, "the file")
        return _KeptType.from_fields(read_json_object(text, "the file"))
    except (InvalidValueError, ValidationError) as error:
        msg = f"{path}, which keeps the type of a blob's content, is damaged; remove it, and the blob's name tells the type"
        raise BlobError(msg) from error


def _require_file(path: Path) -> Path:
    """Return ``path`` if a file is there: no folder, no pipe that would never end."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return path


def _require_no_link(path: Path, subject: str) -> Path:
    """Return ``path`` if it lies where it says.

    Raises:
        InvalidValueError: A symbolic link leads elsewhere.
    """
    # `realpath` sees Windows' junctions as well, and passes over a link that leads to itself.
    if os.path.realpath(path) == str(path) and not any(place.is_symlink() for place in (path, *path.parents)):
        return path
    msg = f"{subject} is refused: a symbolic link on the way to {path} leads elsewhere; put the files themselves there"
    raise InvalidValueError(msg)


def _etag(status: os.stat_result) -> str:
    """Return what tells two versions of a file apart, for ours, each a file of its own, and for those of others."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def _guessed_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or DEFAULT_CONTENT_TYPE


def _remove_empty_folders(folder: Path, last: Path) -> None:
    """Remove folders upwards while they are empty; ``last``, the container, stays."""
    while folder != last:
        try:
            folder.rmdir()
        except OSError:
            return  # not empty, or a rival removed it
        folder = folder.parent


def _flush_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
