"""How the Azure services are reached: credentials, patience, and what their errors mean."""

from collections.abc import Callable
from typing import Final, TypeVar

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential, TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ServiceRequestError
from azure.core.rest import HttpResponse

from stageflow.contracts.preview import redact
from stageflow.errors import InvalidValueError, StageflowError

Credential = AzureNamedKeyCredential | AzureSasCredential | TokenCredential

FORBIDDEN: Final = frozenset({401, 403})
NOT_FOUND: Final = 404
_BUSY: Final = frozenset({408, 429})
_FIRST_SERVER_ERROR: Final = 500
_REASON_LENGTH: Final = 200

Answer = TypeVar("Answer")


def ask(request: Callable[[], Answer], failure: Callable[[AzureError], StageflowError]) -> Answer:
    """Return what a request answers, or raise the failure that its error stands for.

    The failure is raised outside of the ``except`` block and keeps no cause: the SDK's errors quote the whole address of
    a request, shared access signature included.
    """
    try:
        return request()
    except AzureError as error:
        failed = failure(error)
    raise failed


def validate_credential(credential: object, account_url: str) -> Credential:
    """Return a credential object that the SDK can sign requests with.

    Raises:
        InvalidValueError: It is none, or a token would travel unencrypted.
    """
    match credential:
        case AzureNamedKeyCredential() | AzureSasCredential():
            return credential
        case TokenCredential():
            if account_url.startswith("https://"):
                return credential
            msg = f"a token credential must not travel unencrypted to {account_url}; use the https:// address"
            raise InvalidValueError(msg)
        case _:
            msg = (
                f"the credential for {account_url} is of type {type(credential).__name__}; pass an object with get_token "
                "(such as azure.identity.DefaultAzureCredential()), AzureNamedKeyCredential or AzureSasCredential, or use a "
                "connection string"
            )
            raise InvalidValueError(msg)


def connection_string_refused(service: str, error: ValueError) -> InvalidValueError:
    """Return the error of a connection string that the SDK cannot read."""
    msg = (
        f"the connection string for the Azure {service} service cannot be used: {redact(str(error))} Copy it again from the "
        "portal: NAME=VALUE pairs with semicolons between them"
    )
    return InvalidValueError(msg)


def error_code(error: AzureError) -> str:
    """Return the service's own code of an error, empty where the service did not answer."""
    match error:
        case HttpResponseError(response=HttpResponse() as response):
            return str(response.headers.get("x-ms-error-code") or "")
        case _:
            return ""


def status_code(error: AzureError) -> int | None:
    """Return the HTTP status of an error, ``None`` where the service did not answer."""
    match error:
        case HttpResponseError(status_code=int(status)):
            return status
        case _:
            return None


def is_unreachable(error: AzureError) -> bool:
    """Return whether the service did not answer, refused the credentials, or asked for another try."""
    if isinstance(error, ClientAuthenticationError):
        return True
    status = status_code(error)
    return status is None or status in FORBIDDEN or status in _BUSY or status >= _FIRST_SERVER_ERROR


def explain(error: AzureError, place: str, role: str) -> str:
    """Return a sentence on what went wrong at a place and what to do, without secrets."""
    status = status_code(error)
    if isinstance(error, ClientAuthenticationError) or status in FORBIDDEN:
        return (
            f"{place} refuses the credentials ({_reason(error)}); check the account key, that the shared access signature is "
            f"valid and has not expired, or that the identity has the role {role!r}"
        )
    if status is None:
        verb = "cannot be reached" if isinstance(error, ServiceRequestError) else "broke off"
        return f"{place} {verb} ({_reason(error)}); check the address, and that this machine can reach it, then try again"
    if status == NOT_FOUND and not error_code(error):
        return f"{place} was not found, and what answered is no Azure Storage service ({_reason(error)}); check the address"
    return f"{place} answered with an error ({_reason(error)}); try again, and if it stays, look up the code at Azure"


def _reason(error: AzureError) -> str:
    """Return a few words on an error: status and code of an answer, else the innermost cause."""
    match error:
        case HttpResponseError(status_code=int(status)):
            return f"HTTP {status} {error_code(error)}".rstrip()
        case _:
            # The connection's own words begin after the last "<object at …>: "; what precedes quotes the request.
            lines = str(error.message).splitlines() or [""]
            words = redact(lines[0].rpartition(">: ")[2]).partition("?")[0]
            return f"{type(error).__name__}: {words[:_REASON_LENGTH]}"
