"""The one text form in which an Azure address is written: ``azure:<connection string>`` or ``azure:https://…``."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from stageflow.errors import InvalidValueError

SCHEME: Final = "azure:"
DEFAULT_PREFIX: Final = "stageflow"

# `<prefix>-tasks-poison` must be a queue name: 3 to 63 of a-z, 0-9 and single hyphens, none at the ends.
_prefix = re.compile(r"[a-z0-9](?:-?[a-z0-9])*")
_longest_prefix = 63 - len("-tasks-poison")
_trailing_prefix = re.compile(r"\?prefix=(?P<prefix>[^?&;=/]*)$")

_FORMS: Final = (
    "write azure:<connection string> or azure:https://ACCOUNT.queue.core.windows.net, either with ?prefix=NAME at its end"
)


@dataclass(frozen=True, slots=True)
class AzureAddress:
    """An Azure address, taken apart; exactly one of the first two is given.

    Attributes:
        connection_string: Holds its own secret, and is left out of the ``repr``.
        account_url: The endpoint of a service; the credential comes from the caller.
        prefix: What the names of the queues begin with.
    """

    connection_string: str | None = field(repr=False)
    account_url: str | None
    prefix: str


def validate_prefix(prefix: str) -> str:
    """Return ``prefix`` if the names of queues can begin with it.

    Raises:
        InvalidValueError: It has other characters than Azure takes, or is too long.
    """
    if len(prefix) > _longest_prefix or _prefix.fullmatch(prefix) is None:
        msg = (
            f"the queue prefix {prefix[:80]!r} must be at most {_longest_prefix} of a-z, 0-9 and single hyphens between them; "
            "choose another"
        )
        raise InvalidValueError(msg)
    return prefix


def parse_azure_url(url: str) -> AzureAddress:
    """Take an ``azure:`` URL apart.

    Raises:
        InvalidValueError: It has another form. The message repeats nothing of the URL, which may hold a secret.
    """
    if not url.startswith(SCHEME):
        msg = f"this is no azure: URL; {_FORMS}"
        raise InvalidValueError(msg)
    rest, prefix = url.removeprefix(SCHEME), DEFAULT_PREFIX
    if (match := _trailing_prefix.search(rest)) is not None:
        rest, prefix = rest[: match.start()], match["prefix"]
    validate_prefix(prefix)
    if rest.startswith(("https://", "http://")):
        return AzureAddress(connection_string=None, account_url=validate_account_url(rest), prefix=prefix)
    if "=" not in rest:
        msg = f"the azure: URL names neither an account nor a connection string; {_FORMS}"
        raise InvalidValueError(msg)
    return AzureAddress(connection_string=rest, account_url=None, prefix=prefix)


def validate_account_url(account_url: str) -> str:
    """Return the endpoint of a service if it is an address and nothing else.

    Raises:
        InvalidValueError: It has no host, or carries a query (such as a shared access signature) or a user.
    """
    parts = urlsplit(account_url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        msg = (
            "an account URL is https://ACCOUNT.queue.core.windows.net or https://ACCOUNT.blob.core.windows.net and no more; "
            "pass a key or a shared access signature as a credential object or in a connection string"
        )
        raise InvalidValueError(msg)
    return account_url.rstrip("/")
