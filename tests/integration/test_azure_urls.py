"""The text form of Azure addresses."""

import pytest

from stageflow.backends.azure import AzureAddress, parse_azure_url
from stageflow.errors import InvalidValueError

STRING = "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=c2VjcmV0c2VjcmV0==;EndpointSuffix=core.windows.net"
SIGNED = "QueueEndpoint=https://acme.queue.core.windows.net;SharedAccessSignature=sv=2024&sig=c2VjcmV0c2VjcmV0%3D"
HOST = "https://acme.queue.core.windows.net"


@pytest.mark.parametrize("string", [STRING, SIGNED, "UseDevelopmentStorage=true"])
@pytest.mark.parametrize(("query", "prefix"), [("", "stageflow"), ("?prefix=other-app", "other-app")])
def test_a_connection_string_follows_the_scheme(string: str, query: str, prefix: str) -> None:
    """The string is taken as it is, whatever it contains; only a prefix at its end is not part of it."""
    assert parse_azure_url(f"azure:{string}{query}") == AzureAddress(string, None, prefix)


@pytest.mark.parametrize(("query", "prefix"), [("", "stageflow"), ("?prefix=other-app", "other-app")])
def test_an_account_url_follows_the_scheme(query: str, prefix: str) -> None:
    """The credential is no part of such an address."""
    assert parse_azure_url(f"azure:{HOST}/{query}") == AzureAddress(None, HOST, prefix)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/db",
        "azure:",
        "azure:acme",
        "azure:https://",
        f"azure:{HOST}?sv=2024&sig=c2VjcmV0c2VjcmV0",
        f"azure:{HOST}?prefix=one&sig=c2VjcmV0c2VjcmV0",
        "azure:https://user:c2VjcmV0c2VjcmV0@acme.queue.core.windows.net",
        f"azure:{HOST}?prefix=",
        f"azure:{HOST}?prefix=Upper",
        f"azure:{HOST}?prefix=two--hyphens",
        f"azure:{HOST}?prefix=-edge",
        f"azure:{HOST}?prefix={'x' * 51}",
    ],
)
def test_another_form_is_refused_without_repeating_it(url: str) -> None:
    """What looks wrong may hold a secret all the same."""
    with pytest.raises(InvalidValueError) as caught:
        parse_azure_url(url)
    assert "c2VjcmV0" not in str(caught.value)


def test_an_address_shows_no_connection_string() -> None:
    """The picture of an address can be logged."""
    assert repr(parse_azure_url(f"azure:{STRING}")) == "AzureAddress(account_url=None, prefix='stageflow')"
