"""What is Azure Storage Queue's alone: its wire form, its credentials, its limits, and its failures."""

import json
import ssl
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from socket import create_server
from threading import Thread
from time import monotonic
from typing import Protocol

import pytest
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential
from azure.storage.queue import (
    AccountSasPermissions,
    QueueServiceClient,
    ResourceTypes,
    TextBase64DecodePolicy,
    generate_account_sas,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stageflow.backends.azure import AzureStorageQueue
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.queue import ReceivedMessage
from stageflow.errors import InvalidValueError, QueueUnreachableError, StageflowError
from stageflow.testing.conformance.queue import job_message, receive, receive_one, task_message

KEY = "c2VjcmV0c2VjcmV0c2VjcmV0"
SIGNATURE = "c2lnbmVkc2lnbmVkc2lnbmVk"


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
        self.name, self.key, self.queue_url = fields["AccountName"], fields["AccountKey"], fields["QueueEndpoint"]

    def sas(self, *, valid: timedelta) -> str:
        """Return a shared access signature for everything."""
        return generate_account_sas(
            self.name,
            self.key,
            resource_types=ResourceTypes(service=True, container=True, object=True),
            permission=AccountSasPermissions(
                read=True, write=True, delete=True, list=True, add=True, create=True, update=True, process=True
            ),
            expiry=datetime.now(UTC) + valid,
            start=datetime.now(UTC) - timedelta(days=2),
        )


@pytest.fixture
def account(azurite: Azurite) -> Account:
    """Give the emulator's account."""
    return Account(azurite.connection_string)


@pytest.fixture
def service(account: Account) -> Iterator[QueueServiceClient]:
    """Give the SDK's own client."""
    with QueueServiceClient.from_connection_string(account.connection_string) as service:
        yield service


@pytest.fixture
def prefix() -> str:
    """Give a prefix that nobody else uses."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def queue(account: Account, prefix: str) -> Iterator[AzureStorageQueue]:
    """Give created, empty queues."""
    queue = AzureStorageQueue.from_connection_string(account.connection_string, prefix=prefix)
    queue.create()
    yield queue
    queue.close()


def test_others_read_a_message_as_base64_of_ascii_json(
    queue: AzureStorageQueue, service: QueueServiceClient, prefix: str
) -> None:
    """A host such as a queue trigger decodes base64, finds JSON, and takes it as the message."""
    queue.send([task_message()])
    client = service.get_queue_client(f"{prefix}-tasks", message_decode_policy=TextBase64DecodePolicy())
    (message,) = client.peek_messages()
    assert message.content.isascii()
    assert json.loads(message.content)["kind"] == "task"
    assert TaskQueueMessage.from_wire(message.content) == task_message()


def test_a_message_never_expires(queue: AzureStorageQueue, service: QueueServiceClient, prefix: str) -> None:
    """The service's default would drop a message after seven days."""
    queue.send([job_message()])
    (message,) = service.get_queue_client(f"{prefix}-jobs").peek_messages()
    assert message.expires_on is not None
    assert message.expires_on.year == 9999


def test_the_time_of_a_message_is_in_utc(queue: AzureStorageQueue) -> None:
    """An operator compares it with the store's times."""
    queue.send([job_message()])
    received = receive_one(queue)
    assert abs(received.inserted_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_messages_in_hand_are_given_out_although_the_next_page_fails(
    queue: AzureStorageQueue, service: QueueServiceClient, prefix: str
) -> None:
    """What was received is hidden from all others, so it is not lost with the error; the next call meets the error again."""
    queue.send([job_message()])
    service.delete_queue(f"{prefix}-tasks")
    assert JobQueueMessage.from_wire(receive_one(queue).body) == job_message()
    with pytest.raises(
        QueueUnreachableError, match=f"'{prefix}-tasks' at .* does not exist; make the queues once with `stageflow migrate`"
    ):
        receive(queue)


@pytest.mark.parametrize("missing", ["jobs", "tasks", "jobs-poison", "tasks-poison"])
def test_probing_names_the_queue_that_is_missing(
    queue: AzureStorageQueue, service: QueueServiceClient, prefix: str, missing: str
) -> None:
    """A set-up whose poison queue is missing would be found out only by the first poison message."""
    service.delete_queue(f"{prefix}-{missing}")
    with pytest.raises(QueueUnreachableError, match=f"'{prefix}-{missing}' at .* does not exist; .*`stageflow migrate`"):
        queue.probe()
    queue.create()
    assert queue.probe() == 0


@pytest.mark.parametrize("seconds", [0, -1, 604_801, float("nan"), float("inf")])
def test_a_time_that_the_service_does_not_take_is_refused(queue: AzureStorageQueue, seconds: float) -> None:
    """The error comes from here and says what is possible."""
    with pytest.raises(InvalidValueError, match="hidden for 1 to 604800 seconds"):
        receive(queue, seconds=seconds)


def test_no_messages_cannot_be_asked_for(queue: AzureStorageQueue) -> None:
    """A worker without room does not ask."""
    with pytest.raises(InvalidValueError, match="at least 1"):
        receive(queue, 0)


def test_a_message_of_other_queues_is_refused(queue: AzureStorageQueue) -> None:
    """Two prefixes in one account are two queues."""
    foreign = ReceivedMessage(
        queue="other-jobs", message_id="1", body=b"", receipt="1", delivery_count=1, inserted_at=datetime.now(UTC)
    )
    for operation in (queue.delete, queue.park, lambda message: queue.extend(message, 1)):
        with pytest.raises(InvalidValueError, match="'other-jobs'"):
            operation(foreign)


def test_a_named_key_credential_opens_the_queues(account: Account, queue: AzureStorageQueue, prefix: str) -> None:
    """The account's URL and a key object do what a connection string does."""
    queue.send([job_message()])
    credential = AzureNamedKeyCredential(account.name, account.key)
    assert_round_trip(AzureStorageQueue.from_credential(account.queue_url, credential, prefix=prefix))


def test_a_signature_opens_the_queues(account: Account, queue: AzureStorageQueue, prefix: str) -> None:
    """A shared access signature works as an object and within a connection string."""
    queue.send([job_message(), job_message()])
    signature = account.sas(valid=timedelta(hours=1))
    string = f"QueueEndpoint={account.queue_url};SharedAccessSignature={signature}"
    assert_round_trip(AzureStorageQueue.from_credential(account.queue_url, AzureSasCredential(signature), prefix=prefix))
    assert_round_trip(AzureStorageQueue.from_connection_string(string, prefix=prefix))


def assert_round_trip(queue: AzureStorageQueue) -> None:
    """Receive a message that is there, send it again, and close."""
    (message,) = receive(queue, 1)
    queue.send([JobQueueMessage.from_wire(message.body)])
    assert queue.delete(message)
    queue.close()


class FixedToken:
    """A token credential."""

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        """Return a token for any scope."""
        assert scopes
        return AccessToken(KEY, 4_000_000_000)


def test_a_token_never_travels_unencrypted() -> None:
    """Over http:// a token credential is refused before anything is sent; over https:// it is taken."""
    with pytest.raises(InvalidValueError, match="https://"):
        AzureStorageQueue.from_credential("http://acme.queue.core.windows.net", FixedToken())
    AzureStorageQueue.from_credential("https://acme.queue.core.windows.net", FixedToken()).close()


class _Empty(BaseHTTPRequestHandler):
    """Answers a bearer of the token with an empty queue, and nobody else."""

    def do_GET(self) -> None:
        """Answer a request to receive."""
        allowed = self.headers["Authorization"] == f"Bearer {KEY}"
        answer = b'<?xml version="1.0" encoding="utf-8"?><QueueMessagesList />' if allowed else b""
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base's
        """Keep quiet."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve on a free port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Give a certificate for this machine that the SDK trusts during the test."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(hours=1), now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = tmp_path / "certificate.pem"
    pem.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def test_a_token_credential_opens_the_queues(tls: ssl.SSLContext) -> None:
    """The token that the object gives goes with each request."""
    with serving(_Empty, tls) as port:
        queue = AzureStorageQueue.from_credential(f"https://127.0.0.1:{port}/acme", FixedToken())
        assert receive(queue) == []
        queue.close()


@pytest.mark.parametrize("credential", [None, KEY, {"account_key": KEY}])
def test_what_is_no_credential_object_is_refused_without_showing_it(credential: object) -> None:
    """A key as text belongs into a connection string, and into no message."""
    with pytest.raises(InvalidValueError, match=f"type {type(credential).__name__};.* get_token") as caught:
        AzureStorageQueue.from_credential("https://acme.queue.core.windows.net", credential)
    assert_hides_secrets(caught.value)


@pytest.mark.parametrize("string", ["", "nonsense", f"AccountKey={KEY}", f"AccountName=acme;{KEY}"])
def test_what_is_no_connection_string_is_refused_without_showing_it(string: str) -> None:
    """Half a connection string may hold the whole key."""
    with pytest.raises(InvalidValueError, match="connection string") as caught:
        AzureStorageQueue.from_connection_string(string)
    assert_hides_secrets(caught.value)


@pytest.mark.parametrize("prefix", ["", "Upper", "two--hyphens", "-edge", "edge-", "under_score", "x" * 51])
def test_a_prefix_that_makes_no_queue_name_is_refused(prefix: str) -> None:
    """The names of all four queues are valid, or none is used."""
    with pytest.raises(InvalidValueError, match="queue prefix"):
        AzureStorageQueue.from_connection_string("UseDevelopmentStorage=true", prefix=prefix)


def test_a_wrong_key_is_said_to_be_refused(account: Account) -> None:
    """The operator reads what to check, and no key."""
    string = account.connection_string.replace(account.key, KEY)
    assert_fails(AzureStorageQueue.from_connection_string(string), "refuses the credentials .*HTTP 403.*account key")


def test_a_key_that_is_no_key_is_said_to_be_refused(account: Account) -> None:
    """It fails when a request is signed, before anything is sent."""
    string = account.connection_string.replace(account.key, f"{KEY}x")
    assert_fails(AzureStorageQueue.from_connection_string(string), "refuses the credentials")


def test_an_expired_signature_is_said_to_be_refused(account: Account) -> None:
    """The signature is part of each request's address, and of no error."""
    expired = account.sas(valid=-timedelta(days=1))
    queue = AzureStorageQueue.from_credential(account.queue_url, AzureSasCredential(expired))
    assert_fails(queue, "refuses the credentials .*has not expired", expired.split("sig=")[1].split("&")[0])


def test_queues_that_were_not_created_are_missed(account: Account, prefix: str) -> None:
    """The message says how they come to be."""
    assert_fails(
        AzureStorageQueue.from_connection_string(account.connection_string, prefix=prefix),
        r"`stageflow migrate` and this --queue",
    )


def signed_queue(port: int) -> AzureStorageQueue:
    """Return queues on this machine, behind a signature that no error may show."""
    return AzureStorageQueue.from_connection_string(
        f"QueueEndpoint=http://127.0.0.1:{port}/acme;SharedAccessSignature=sv=2024&sig={SIGNATURE}"
    )


@pytest.mark.faults
def test_f16_a_server_that_is_down_is_an_error_within_seconds() -> None:
    """The SDK alone would try for minutes."""
    with create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert_fails(signed_queue(port), "cannot be reached .*[Rr]efused.*check the address")


def test_a_server_that_accepts_and_never_answers_is_an_error_within_seconds() -> None:
    """A hanging service does not hang its caller."""
    with create_server(("127.0.0.1", 0)) as server:
        assert_fails(signed_queue(server.getsockname()[1]), "check the address")


class _Busy(BaseHTTPRequestHandler):
    """Answers as the service does under too much load."""

    def do_GET(self) -> None:
        """Refuse for now; receiving is a GET."""
        self.send_response(503)
        self.send_header("x-ms-error-code", "ServerBusy")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base's
        """Keep quiet."""


def test_a_server_that_is_too_busy_is_an_error_within_seconds() -> None:
    """Its own code is in the message."""
    with serving(_Busy) as port:
        assert_fails(signed_queue(port), "HTTP 503 ServerBusy.*try again")


def test_sending_many_messages_to_a_server_that_is_down_stops_at_the_first_error() -> None:
    """A thousand messages take no longer to fail than one."""
    with create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    queue = signed_queue(port)
    began = monotonic()
    with pytest.raises(QueueUnreachableError, match="cannot be reached") as caught:
        queue.send([task_message(number) for number in range(1000)])
    queue.close()
    assert monotonic() - began < 10
    assert_hides_secrets(caught.value)


def assert_fails(queue: AzureStorageQueue, pattern: str, *secrets: str) -> None:
    """Check that receiving fails, soon, clearly, and without secrets, and close."""
    began = monotonic()
    with pytest.raises(QueueUnreachableError, match=pattern) as caught:
        receive(queue)
    assert monotonic() - began < 10
    queue.close()
    assert queue.url in str(caught.value)
    assert_hides_secrets(caught.value, *secrets)


def assert_hides_secrets(error: StageflowError, *secrets: str) -> None:
    """Check the error as a log shows it, with all that led to it."""
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert [secret for secret in (KEY, SIGNATURE, *secrets) if f"{secret}" in shown] == []
    assert error.__cause__ is None
    assert error.__context__ is None
