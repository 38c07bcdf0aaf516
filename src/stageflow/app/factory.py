"""The single way to obtain stores, queues and repositories; backends are imported when they are asked for."""

import re
from collections.abc import Callable
from typing import Any, ClassVar, Final
from urllib.parse import unquote, urlsplit

from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.payload import PayloadOptions
from stageflow.contracts.preview import redact
from stageflow.contracts.schema import SchemaState
from stageflow.errors import InvalidValueError, SchemaVersionError
from stageflow.ports import BlobStore, Queue, Store
from stageflow.repositories import PayloadShelf, Repositories

DEFAULT_STORE: Final = "sqlite:stageflow.db"

_kind: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,19}")

ConnectionFactory = Callable[[], Any]
"""Returns a new ``psycopg.Connection``; called for each connection, so that expiring cloud tokens work."""


class RepositoryFactory:
    """Makes repositories for a store's URL."""

    @staticmethod
    @enforce_contract(params={"store": str, "pool_size": int})
    def create_repositories(
        store: str = DEFAULT_STORE,
        *,
        connection_factory: ConnectionFactory | None = None,
        pool_size: int = 10,
        blobs: str | BlobStore | None = None,
        payloads: PayloadOptions | None = None,
        credential: object | None = None,
    ) -> Repositories:
        """Return the repositories of a store; nothing is connected yet, and no schema is touched, SQLite or not.

        On a new store call ``repositories.store.migrate()`` first; a :class:`Stageflow` app does that for SQLite by itself.

        Args:
            store: ``sqlite:PATH``, ``sqlite::memory:`` or ``postgresql://…``.
            connection_factory: Makes PostgreSQL connections in place of the URL.
            pool_size: The most PostgreSQL connections at a time.
            blobs: Where payloads go that are too large for a row: ``file:FOLDER``, ``azure:…`` or a blob store. When left out,
                beside a SQLite file, in memory with a store in memory, and nowhere with PostgreSQL.
            payloads: From which size on, and how they are kept.
            credential: An Azure credential object, where ``blobs`` names an account only.

        Raises:
            InvalidValueError: A URL names nothing that there is.
        """
        options = payloads if payloads is not None else PayloadOptions()
        shelf = create_shelf(store if connection_factory is None else "", blobs, options, credential)
        return Repositories.over(_create_store(store, connection_factory, pool_size), shelf)


class RepositoryRegistry:
    """Keeps one set of repositories per store URL in a process, so that pools are shared."""

    _default: ClassVar["RepositoryRegistry | None"] = None

    def __init__(self) -> None:
        self._known: dict[str, Repositories] = {}

    @classmethod
    def instance(cls) -> "RepositoryRegistry":
        """Return the default registry, the same one every time."""
        if RepositoryRegistry._default is None:
            RepositoryRegistry._default = RepositoryRegistry()
        return RepositoryRegistry._default

    def get(self, store: str) -> Repositories:
        """Return the repositories of a store, made at the first call."""
        if store not in self._known:
            self._known[store] = RepositoryFactory.create_repositories(store)
        return self._known[store]

    def close(self) -> None:
        """Close all stores and forget them."""
        for repositories in self._known.values():
            repositories.payloads.close()
            repositories.store.close()
        self._known.clear()


def require_made(store: str) -> None:
    """Do nothing if opening an app on this store makes nothing: a SQLite file is made by whoever opens an app on it.

    Raises:
        SchemaVersionError: The SQLite file is not there, or holds nothing of stageflow.
    """
    if not store.startswith("sqlite:") or store.endswith(":memory:"):
        return
    opened = _create_store(store, None, 1)
    try:
        report = opened.verify()
        if report.state is SchemaState.MISSING and report.drifts:
            opened.check_schema()  # says better than this what there is
        if report.state is SchemaState.MISSING:
            msg = (
                f"there is no stageflow store at {opened.url}; correct the address, or make the store with "
                f"`stageflow migrate --store {store}`"
            )
            raise SchemaVersionError(msg)
    finally:
        opened.close()


def create_queue(url: str, *, credential: object | None = None) -> Queue:
    """Return the external queue that a URL names.

    Args:
        url: ``azure:CONNECTION_STRING`` or ``azure:https://ACCOUNT.queue.core.windows.net`` with a credential.
        credential: An Azure credential object, for the second form.

    Raises:
        InvalidValueError: The URL names no queue that there is.
    """
    if not url.startswith("azure:"):
        msg = f"queue {_kind_of(url)!r} is not known; use azure:CONNECTION_STRING, or leave it out for the database queue"
        raise InvalidValueError(msg)
    try:
        from stageflow.backends.azure import AzureStorageQueue, parse_azure_url  # noqa: PLC0415  the SDK is an extra
    except ImportError as error:
        msg = "the Azure SDK is not installed; install stageflow[azure]"
        raise InvalidValueError(msg) from error
    address = parse_azure_url(url)
    if address.connection_string is not None:
        return AzureStorageQueue.from_connection_string(address.connection_string, prefix=address.prefix)
    if address.account_url is None or credential is None:
        msg = f"queue {_kind_of(url)!r} names an account only; pass a credential object, Stageflow(queue=..., credential=...)"
        raise InvalidValueError(msg)
    return AzureStorageQueue.from_credential(address.account_url, credential, prefix=address.prefix)


def _kind_of(url: str) -> str:
    """Return what a URL begins with, up to its colon: a misspelt address may hide its password from every redactor."""
    kind = url.partition(":")[0]
    return f"{kind}:…" if _kind.fullmatch(kind) is not None and kind != url else "…"


def create_shelf(store: str, blobs: str | BlobStore | None, options: PayloadOptions, credential: object | None) -> PayloadShelf:
    """Return where the payloads of a store go that are too large for its rows.

    Args:
        store: The store's URL, for a default; a SQLite file has a folder beside it, PostgreSQL has none.
        blobs: ``file:FOLDER``, ``azure:CONNECTION_STRING``, ``azure:https://ACCOUNT.blob.core.windows.net`` or a blob store.
        options: How they are kept.
        credential: An Azure credential object, for the third form.

    Raises:
        InvalidValueError: The URL names no blob store that there is.
    """
    from stageflow.backends.files import FileBlobStore  # noqa: PLC0415  loaded on first need, like its siblings

    match blobs:
        case str() if blobs.startswith("file:") and len(blobs) > len("file:"):
            path = unquote(urlsplit(blobs).path) if blobs.startswith("file://") else blobs.removeprefix("file:")
            return PayloadShelf(FileBlobStore(path), options)
        case str() if blobs.startswith("azure:"):
            return _azure_shelf(blobs, options, credential)
        case str():
            msg = f"blob store {redact(blobs)!r} is not known; use file:FOLDER or azure:CONNECTION_STRING"
            raise InvalidValueError(msg)
        case None if store.startswith("sqlite:") and store.endswith(":memory:"):
            from stageflow.backends.memory import MemoryBlobStore  # noqa: PLC0415  loaded on first need

            return PayloadShelf(MemoryBlobStore(), options)
        case None if store.startswith("sqlite:") and "\0" not in store:
            return PayloadShelf(FileBlobStore(f"{store.removeprefix('sqlite:').removeprefix('//')}.blobs"), options)
        case _:
            return PayloadShelf(blobs, options)


def _azure_shelf(url: str, options: PayloadOptions, credential: object | None) -> PayloadShelf:
    try:
        from stageflow.backends.azure import AzureBlobStore, parse_azure_url  # noqa: PLC0415  the SDK is an extra
    except ImportError as error:
        msg = "the Azure SDK is not installed; install stageflow[azure]"
        raise InvalidValueError(msg) from error
    address = parse_azure_url(url)
    if address.connection_string is not None:
        opened = AzureBlobStore.from_connection_string(address.connection_string)
    elif address.account_url is not None and credential is not None:
        opened = AzureBlobStore.from_credential(address.account_url, credential)
    else:
        msg = (
            f"blob store {redact(url)!r} names an account only; pass a credential object, Stageflow(blobs=..., credential=...)"
        )
        raise InvalidValueError(msg)
    return PayloadShelf(opened, options, close=opened.close)


def _create_store(url: str, connection_factory: ConnectionFactory | None, pool_size: int) -> Store:
    if "\0" in url:
        msg = f"store {_kind_of(url)!r} has a NUL in it, which no path or address can have; give it without"
        raise InvalidValueError(msg)
    if connection_factory is not None or url.startswith(("postgresql://", "postgres://")):
        from stageflow.backends.postgres import PostgresStore  # noqa: PLC0415  psycopg is loaded on first need

        return PostgresStore(connection_factory or url, pool_size=pool_size)
    if url.startswith("sqlite:"):
        from stageflow.backends.sqlite import SqliteStore  # noqa: PLC0415  loaded on first need, like its sibling

        path = url.removeprefix("sqlite:")
        return SqliteStore(path.removeprefix("//") if path.startswith("//") else path)
    msg = f"store {_kind_of(url)!r} is not known; use sqlite:PATH, sqlite::memory: or postgresql://USER@HOST/DATABASE"
    raise InvalidValueError(msg)
