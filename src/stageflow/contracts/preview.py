"""The one redactor, and pictures of values that are short and safe enough for error messages."""

import re
import reprlib

_shown = 80
# Longer texts are cut before they are searched, so that an error about a huge value stays cheap.
_searched = 4_000

# scheme://user:SECRET@host. Up to the last "@" of the word: a raw "@" or "/" in a password must not show its rest.
_url = re.compile(r"(://[^\s:/?#]*:)\S{0,1000}@")
# key=SECRET, key: SECRET, 'key': SECRET, 'key': b'SECRET', key=Wrapped('SECRET'); a quoted secret may have lost its end,
# and an unquoted one may hold a quote.
_pair = r"""
    (?P<key> (?:{keys}) \\?['"]? \s* [:=] \s* )
    (?:
        (?P<open> \\? (?: [bru]{{0,2}} | [\w.]*[(\[{{]+ ) (?P<quote>['"]) ) (?: \\. | (?!(?P=quote)). )* (?P<close>(?P=quote)?)
        | {plain}
    )
"""
_flags = re.IGNORECASE | re.DOTALL | re.VERBOSE
_plain = r"""(?: (?:bearer|basic)\s+ )? (?: [^\s'"] | ['"](?! [\s,;:)}\]] | $ ) )+"""
_password = re.compile(
    _pair.format(keys="password|passwd|passphrase|pwd|secret|api[_-]?key|authorization", plain=_plain), _flags
)
# The keys of Azure's connection strings, where ";" ends a value.
_azure = re.compile(
    _pair.format(keys="account[_-]?key|access[_-]?key|shared[_-]?access[_-]?signature", plain=r"""[^\s'";]+"""), _flags
)
_signature = re.compile(r"""(?<![a-z0-9_])(sig=)[^\s&;'"]+""", re.IGNORECASE)
_bearer = re.compile(r"\b(bearer\s+)[a-z0-9._~+/=-]+", re.IGNORECASE)


def _hide_value(found: re.Match[str]) -> str:
    return f"{found['key']}{found['open'] or ''}***{found['close'] or ''}"


def redact(text: str) -> str:
    """Return ``text`` with what looks like a secret replaced by ``***``.

    Known are passwords in URLs, values of keys such as ``password``, ``AccountKey`` and ``SharedAccessSignature``, the
    ``sig`` of signed URLs, and bearer tokens. In doubt more is hidden than needed. Redacting twice changes nothing.
    """
    text = _url.sub(r"\1***@", text)
    text = _password.sub(_hide_value, text)
    text = _azure.sub(_hide_value, text)
    text = _signature.sub(r"\1***", text)
    return _bearer.sub(r"\1***", text)


class _Picture(reprlib.Repr):
    """``reprlib`` that redacts before it shortens: half a secret is no longer recognised as one."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = _shown
        self.maxother = _shown

    def repr_str(self, x: str, level: int) -> str:  # noqa: ARG002 - the interface
        return _shorten(repr(redact(x[:_searched])), self.maxstring)

    def repr_instance(self, x: object, level: int) -> str:  # noqa: ARG002 - the interface
        return _shorten(redact(repr(x)[:_searched]), self.maxother)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def preview(value: object) -> str:
    """Return a one-line picture of ``value``: at most 80 characters, printable, redacted.

    Never raises: a value whose ``repr`` fails is shown by its type.
    """
    try:
        text = _Picture().repr(value)
    except Exception as error:  # noqa: BLE001 - somebody's repr may raise anything, and must not hide the error we report
        text = f"<{type(value).__qualname__}, whose repr raises {type(error).__name__}>"
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return _shorten(redact(" ".join(printable.split())), _shown)
