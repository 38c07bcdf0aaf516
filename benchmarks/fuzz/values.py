"""Inputs: valid ones, and what becomes of them when somebody means harm or a disk fails."""

import json
import random
from collections.abc import Callable
from typing import Any, Final

Fields = dict[str, Any]

_SCALARS: Final[tuple[Any, ...]] = (
    0, -1, 1, 2, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400, 0.0, 1.0, -0.5, 1e308, float("inf"),
    float("nan"), True, False, None, "", " ", "0", "1", "null", "NaN", "Infinity", "a\0b", "\ud800", "\udfff", "\ufeff",
    "\ufffd", "\u202eabc", "a\n", "x" * 101, "x" * 5000, "a" * 64, "A" * 64, "a" * 63 + "\n", "é" * 70_000, [], {}, [[]],
    {"a": 1}, {"": None}, ["a", 1, None], "2026-01-01T00:00:00", "2026-01-01T00:00:00Z", "task", "job", "completed",
)  # fmt: skip


def hostile(rng: random.Random) -> Any:
    """Return a value that nobody expects where it comes."""
    return rng.choice(_SCALARS)


def changed(rng: random.Random, fields: Fields) -> Fields:
    """Return fields with one to three of them changed, dropped, renamed or added; nested ones too."""
    result = dict(fields)
    for _ in range(rng.randint(1, 3)):
        if not result:
            break
        name = rng.choice(list(result))
        match rng.randrange(6):
            case 0:
                del result[name]
            case 1:
                result[name + rng.choice(["", " ", "_", "s"])] = result.pop(name)
            case 2:
                result[rng.choice(["extra", "__class__", "model_config", "kind", ""])] = hostile(rng)
            case 3 if isinstance(result[name], dict):
                result[name] = changed(rng, result[name])
            case 4:
                result[name] = nested(rng, rng.choice([2, 50, 150, 250]))
            case _:
                result[name] = hostile(rng)
    return result


def nested(rng: random.Random, depth: int) -> Any:
    """Return lists and objects in each other."""
    value: Any = hostile(rng)
    for _ in range(depth):
        value = [value] if rng.random() < 0.5 else {"a": value}  # noqa: PLR2004  a coin
    return value


def json_text(rng: random.Random, fields: Fields) -> str:
    """Return fields as JSON, in one of its spellings."""
    return json.dumps(fields, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, 1]))  # noqa: PLR2004  a coin


def _cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _doubled_key(rng: random.Random, text: str) -> str:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(fields, dict) or not fields:
        return text
    key = rng.choice(list(fields))
    first = (
        json.dumps({key: rng.choice([hostile(rng), fields[key]])}, default=str)[:-1]
        if rng.choice([True] * 9 + [False])
        else "{" + '"a":1'
    )
    return first + "," + text.lstrip().removeprefix("{")


def _spliced(rng: random.Random, text: str) -> str:
    place = rng.randrange(len(text) + 1)
    piece = rng.choice(
        ["\0", "\ufeff", "\ud800", '"', "{", "}", "[", ",", ":", "\\", "\\u0000", "\\ud800", "9", "e999", "-", "\n"]
    )
    return text[:place] + piece + text[place + rng.randrange(3) :]


def _digits(rng: random.Random, text: str) -> str:
    return text.replace(
        "1", rng.choice(["1e999", "-1e999", "1" * 400, "1" * 5000, "1.0", "01", "NaN", "-Infinity", "true", "1e0"]), 1
    )


def _wrapped(rng: random.Random, text: str) -> str:
    depth = rng.choice([1, 100, 199, 1000, 200_000])
    return rng.choice(["[" * depth + text + "]" * depth, '{"a":' * depth + text, "[" * depth])


def _with_end(rng: random.Random, text: str) -> str:
    return text + rng.choice(["x", "{}", "\0", "//", " " * 70_000, "\n", "#"])


_SPOILERS: Final[tuple[Callable[[random.Random, str], str], ...]] = (
    _cut, _doubled_key, _doubled_key, _spliced, _spliced, _digits, _wrapped, _with_end,
)  # fmt: skip


def spoiled(rng: random.Random, text: str) -> str:
    """Return a text that is damaged, or still means the same."""
    return rng.choice(_SPOILERS)(rng, text)


def as_bytes(rng: random.Random, text: str) -> bytes:
    """Return a text as bytes: UTF-8 mostly, lone surrogates as they are, other encodings and flipped bits now and then."""
    match rng.randrange(20):
        case 0:
            return text.encode("utf-16", errors="surrogatepass")
        case 1:
            return b"\xef\xbb\xbf" + text.encode(errors="surrogatepass")
        case 2:
            raw = bytearray(text.encode(errors="surrogatepass") or b"x")
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            return bytes(raw)
        case 3:
            return text.encode("latin-1", errors="replace")
        case 4:
            return rng.randbytes(rng.randrange(60))
        case _:
            return text.encode(errors="surrogatepass")


def hostile_text(rng: random.Random, fields: Fields) -> str:
    """Return JSON of fields: valid in one of four, else changed, damaged, or both."""
    match rng.randrange(4):
        case 0:
            return json_text(rng, fields)
        case 1:
            return json_text(rng, changed(rng, fields))
        case 2:
            return spoiled(rng, json_text(rng, fields))
        case _:
            return spoiled(rng, json_text(rng, changed(rng, fields)))
