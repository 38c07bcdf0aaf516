"""What is Azure Blob Storage's alone: its credentials, its folders, and its failures."""

import traceback
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import create_server
from threading import Thread
from time import monotonic
from typing import ClassVar, Protocol

import pytest
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas

from stageflow.backends.azure import AzureBlobStore
from stageflow.errors import BlobError, BlobNotFoundError, BlobStoreUnreachableError, InvalidValueError, StageflowError

KEY = "c2VjcmV0c2VjcmV0c2VjcmV0"
SIGNATURE = "c2lnbmVkc2lnbmVkc2lnbmVk"
_MEBIBYTE = 1024 * 1024


class Azurite(Protocol):
    """What is needed of the emulator."""

    @property
    def connection_string(self) -> str:
        """The connection string of its account."""
        ...


class Account:
    """A storage account on the emulator, seen past the library."""

    def __init__(self, connection_string: str) -> None:
        self.connection_string = connection_string
        fields = dict(part.split("=", 1) for part in connection_string.strip(";").split(";"))
        self.name, self.key, self.blob_url = fields["AccountName"], fields["AccountKey"], fields["BlobEndpoint"]

    def sas(self) -> str:
        """Return a shared access signature for everything, for an hour."""
        return generate_account_sas(
            self.name,
            self.key,
            resource_types=ResourceTypes(service=True, container=True, object=True),
            permission=AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )


@pytest.fixture
def account(azurite: Azurite) -> Account:
    """Give the emulator's account."""
    return Account(azurite.connection_string)


@pytest.fixture
def container() -> str:
    """Give the name of a container that nobody else uses."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def blobs(account: Account) -> Iterator[AzureBlobStore]:
    """Give the account's blobs."""
    blobs = AzureBlobStore.from_connection_string(account.connection_string)
    yield blobs
    blobs.close()


def test_a_named_key_credential_opens_the_store(account: Account, container: str) -> None:
    """The account's URL and a key object do what a connection string does."""
    assert_works(
        AzureBlobStore.from_credential(account.blob_url, AzureNamedKeyCredential(account.name, account.key)), container
    )


def test_a_signature_opens_the_store_and_copies(account: Account, container: str) -> None:
    """The source of a copy needs the signature as well, as an object and within a connection string."""
    signature = account.sas()
    string = f"BlobEndpoint={account.blob_url};SharedAccessSignature={signature}"
    assert_works(AzureBlobStore.from_credential(account.blob_url, AzureSasCredential(f"?{signature}")), container)
    assert_works(AzureBlobStore.from_connection_string(string), container)


class _Copying(BaseHTTPRequestHandler):
    """Notes the sources of copies, and answers that all went well."""

    sources: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        """Answer for the properties of a blob."""
        self._answer(200)

    def do_PUT(self) -> None:
        """Answer for a copy."""
        self.sources.append(self.headers["x-ms-copy-source"])
        self._answer(202)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Length", "0"),
            ("ETag", '"0x1"'),
            ("Last-Modified", formatdate(usegmt=True)),
            ("x-ms-copy-status", "success"),
        ):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base's
        """Keep quiet."""


def test_the_source_of_a_copy_is_signed() -> None:
    """The emulator lets every source pass; the service reads it only with the signature."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Copying) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/acme"
            blobs = AzureBlobStore.from_credential(url, AzureSasCredential(f"sv=2024&sig={SIGNATURE}"))
            blobs.copy("maps", "dir/source", "maps", "copy")
            blobs.close()
        finally:
            server.shutdown()
            thread.join()
    assert _Copying.sources == [f"{url}/maps/dir/source?sv=2024&sig={SIGNATURE}"]


def assert_works(blobs: AzureBlobStore, container: str) -> None:
    """Write, copy and read, and close."""
    blobs.write(container, "dir/source", b"content")
    blobs.copy(container, "dir/source", f"{container}-2", "copy")
    assert blobs.read(f"{container}-2", "copy") == b"content"
    assert "sig=" not in f"{blobs.url} {blobs!r}"
    blobs.close()


def test_blobs_of_others_are_listed_with_their_metadata(blobs: AzureBlobStore, account: Account, container: str) -> None:
    """Folders that a hierarchical namespace lists as empty blobs are no blobs."""
    blobs.write(container, "tile", b"1")
    with BlobServiceClient.from_connection_string(account.connection_string) as service:
        service.get_blob_client(container, "dir").upload_blob(b"", metadata={"hdi_isfolder": "true"})
        service.get_blob_client(container, "dir/scan").upload_blob(b"22", metadata={"camera": "north"})
    assert [(blob.name, blob.metadata) for blob in blobs.list_blobs(container)] == [
        ("dir/scan", {"camera": "north"}),
        ("tile", {}),
    ]


def test_a_blob_that_is_replaced_while_it_is_read_is_never_mixed(blobs: AzureBlobStore, container: str) -> None:
    """Pieces of two versions do not make a blob."""
    blobs.write(container, "large", b"a" * 9 * _MEBIBYTE)
    pieces = blobs.read_chunks(container, "large", chunk_bytes=_MEBIBYTE)
    assert next(pieces) == b"a" * _MEBIBYTE
    blobs.write(container, "large", b"b" * 9 * _MEBIBYTE)
    with pytest.raises(BlobError, match=r"'large' .* was replaced while it was being read; read it again"):
        list(pieces)


def test_a_missing_blob_is_named_with_the_store(blobs: AzureBlobStore, container: str) -> None:
    """Two stores may have containers of the same name."""
    with pytest.raises(BlobNotFoundError) as caught:
        blobs.read(container, "missing")
    assert blobs.url in str(caught.value)


def test_a_wrong_key_is_said_to_be_refused(account: Account, container: str) -> None:
    """The operator reads what to check, and no key."""
    string = account.connection_string.replace(account.key, KEY)
    assert_fails(AzureBlobStore.from_connection_string(string), container, "refuses the credentials .*HTTP 403")


@pytest.mark.faults
def test_f16_a_server_that_is_down_is_an_error_within_seconds(container: str) -> None:
    """The SDK alone would try for minutes, and quote the signature."""
    with create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    string = f"BlobEndpoint=http://127.0.0.1:{port}/acme;SharedAccessSignature=sv=2024&sig={SIGNATURE}"
    assert_fails(AzureBlobStore.from_connection_string(string), container, "cannot be reached .*[Rr]efused.*check the address")


@pytest.mark.parametrize("string", ["", "nonsense", f"AccountKey={KEY}"])
def test_what_is_no_connection_string_is_refused_without_showing_it(string: str) -> None:
    """Half a connection string may hold the whole key."""
    with pytest.raises(InvalidValueError, match="connection string") as caught:
        AzureBlobStore.from_connection_string(string)
    assert_hides_secrets(caught.value)


def assert_fails(blobs: AzureBlobStore, container: str, pattern: str) -> None:
    """Check that each way to reach the store fails, soon, clearly, and without secrets, and close."""
    began = monotonic()
    for operation in (
        lambda: blobs.read(container, "blob"),
        lambda: list(blobs.list_blobs(container)),
        lambda: blobs.write(container, "blob", b""),
    ):
        with pytest.raises(BlobStoreUnreachableError, match=pattern) as caught:
            operation()
        assert blobs.url in str(caught.value)
        assert_hides_secrets(caught.value)
    assert monotonic() - began < 10
    blobs.close()


def assert_hides_secrets(error: StageflowError) -> None:
    """Check the error as a log shows it, with all that led to it."""
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert [secret for secret in (KEY, SIGNATURE) if secret in shown] == []
    assert error.__cause__ is None
    assert error.__context__ is None
