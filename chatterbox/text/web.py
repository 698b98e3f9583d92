"""Web and mail addresses, handles, hashtags, paths and file names → words.

The address bar's punctuation is said as words; a long path or query is left out and reported.
"""

import re
from typing import Final
from urllib.parse import unquote

from chatterbox.text.numbers import digits
from chatterbox.text.rules import Rule, any_of, apply, words

_MAX_PATH_CHARS: Final = 40
"""Longer paths carry identifiers that nobody wants to hear."""

_LETTER_ENDINGS: Final = {
    letters: " ".join(letters.upper())
    for letters in words("io us de fr ch jp cn ru xyz ly sh rs gg nl es pl cz kr in is vc cc")
}
_WORD_ENDINGS: Final = {
    **{word: word for word in words("com org net edu gov info biz dev app me co cloud blog shop")},
    **{
        "uk": "UK",
        "eu": "EU",
        "ai": "AI",
        "tv": "TV",
        "fm": "FM",
        "ca": "CA",
        "au": "AU",
        "it": "I T",
    },
}
_ENDINGS: Final = {**_LETTER_ENDINGS, **_WORD_ENDINGS}
_FILE_ENDINGS: Final = {
    **{
        name: name
        for name in words("py zip exe json conf log toml doc bin env lock tar bash git net")
    },
    **{
        name: name.upper()
        for name in words("js ts css html xml csv pdf svg sql php wav docx xls xlsx")
    },
    **{
        "md": "M D",
        "txt": "text",
        "sh": "S H",
        "rs": "R S",
        "go": "go",
        "rb": "R B",
        "cpp": "C P P",
    },
    **{
        "jpg": "JPEG",
        "jpeg": "JPEG",
        "png": "PNG",
        "gif": "GIF",
        "mp3": "MP three",
        "mp4": "MP four",
    },
    **{
        "yml": "YAML",
        "yaml": "YAML",
        "cfg": "C F G",
        "ini": "I N I",
        "gz": "G Z",
        "c": "C",
        "h": "H",
    },
}
_MARKS: Final = {
    "/": "slash",
    "\\": "backslash",
    "-": "dash",
    "_": "underscore",
    ".": "dot",
    "?": "question mark",
    "=": "equals",
    "&": "and",
    "#": "hash",
    "+": "plus",
    "~": "tilde",
    ":": "colon",
    "@": "at",
    "%": "percent",
    ",": "comma",
    "!": "exclamation mark",
    "*": "star",
}
_MARK_RUN: Final = re.compile(r"([^\w]|_)")
_TRAILING: Final = ".,;:!?)]}'\"*"

_ADDRESS: Final = re.compile(
    r"(?<![\w@])(?:(?:https?|ftp|wss?)://(?=\w)|www\.)(?P<full>[^\s<>\"]{1,2000})"
    rf"|(?<![\w@./-])(?P<bare>(?:[A-Za-z0-9][A-Za-z0-9-]{{0,62}}\.){{1,4}}{any_of(_ENDINGS)}"
    r"(?![\w-]|\.\w)(?::\d{2,5})?(?:/[^\s<>\"]{0,2000})?)"
    r"|(?<![\w@./-])(?P<local>localhost:\d{2,5}(?:/[^\s<>\"]{0,2000})?)"
)
_MAIL: Final = re.compile(
    r"(?<![\w.+-])(?:mailto:)?([A-Za-z0-9][\w.+-]{0,63})@((?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24})"
    r"(?![\w@])"
)


def _say(text: str) -> str:
    """Words and marks, each mark by its name."""
    parts = (_MARKS.get(part, part) for part in _MARK_RUN.split(text) if part.strip())
    return " ".join(part for part in parts if part.isalnum() or " " in part)


def _say_host(host: str) -> str:
    name, _, port = host.partition(":")
    labels = name.split(".")
    if all(label.isdigit() for label in labels):
        said = " dot ".join(digits(label) for label in labels)
    else:
        known = [_ENDINGS.get(label.lower(), label) for label in labels[1:]]
        said = " dot ".join(_say(label) for label in [labels[0], *known])
    return f"{said} port {port}" if port else said


def _say_file(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    if not dot or ending.lower() not in _FILE_ENDINGS:
        return _say(name)
    return f"{_say(stem)} dot {_FILE_ENDINGS[ending.lower()]}".strip()


def _say_path(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{_say(folder)} {'slash ' if slash else ''}{_say_file(name)}".strip()


def spoken_addresses(text: str) -> tuple[str, list[str]]:
    """The text with its addresses as words, and the paths that were left out."""
    left_out: list[str] = []

    def say_address(match: re.Match[str]) -> str:
        whole = match["full"] or match["bare"] or match["local"]
        address = whole.rstrip(_TRAILING)
        host, slash, path = address.removeprefix("www.").partition("/")
        path = unquote(slash + path).rstrip("/")
        if "?" in host or "#" in host:
            host, path = re.split(r"[?#]", host, maxsplit=1)[0], host
        if len(path) > _MAX_PATH_CHARS:
            left_out.append(path)
            path = ""
        said = f"{_say_host(host)} {_say_path(path)}" if path else _say_host(host)
        return said + whole[len(address) :]

    if "@" in text:
        text = _MAIL.sub(lambda m: f"{_say(m[1])} at {_say_host(m[2])}", text)
    if "." in text or ":" in text:
        text = _ADDRESS.sub(say_address, text)
    return apply(_RULES, text), left_out


def split_case(name: str) -> str:
    """ "XMLHttpRequest" → "XML Http Request"."""
    return re.sub(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name.replace("_", " "))


def _path(match: re.Match[str]) -> str:
    path = match[0].rstrip(_TRAILING)
    return _say_path(path) + match[0][len(path) :]


_RULES: Final = (
    Rule(re.compile(r"\b([CF])#(?!\w)"), r"\1 sharp", hint="#"),
    Rule(re.compile(r"\bC\+\+"), "C plus plus", hint="+"),
    Rule(
        re.compile(r"(?<![\w&])#([A-Za-z]\w{0,60})"),
        lambda m: "hashtag " + split_case(m[1]),
        hint="#",
    ),
    Rule(re.compile(r"(?<![\w@])@([A-Za-z_]\w{0,40})"), lambda m: "at " + _say(m[1]), hint="@"),
    Rule(re.compile(r"(?<!\S)(?:~|\.{1,2})?/[\w./-]{1,200}"), _path, hint="/"),
    Rule(re.compile(r"\b[A-Z]:\\[\w.\\-]{0,200}"), _path, hint="\\"),
    Rule(
        re.compile(rf"(?<![\w.])[A-Za-z_][\w-]{{0,60}}\.{any_of(_FILE_ENDINGS)}(?![\w-]|\.\w)"),
        lambda m: _say_file(m[0]),
        hint=".",
    ),
    Rule(
        re.compile(r"(?<![\w.])\.([A-Za-z]{2,5})\b"),
        lambda m: "dot " + _FILE_ENDINGS.get(m[1].lower(), m[1]),
        hint=".",
    ),
    Rule(re.compile(r"(?<=[a-z]{2})\.(?=[A-Z][a-z])"), ". ", hint="."),
    Rule(re.compile(r"(?<=[a-z]{2})\.(?=[a-z]{2})|(?<=[A-Z]{2})\.(?=[A-Z]{2})"), " dot ", hint="."),
    Rule(re.compile(r"(?<=\w)\(\)"), "", hint="("),
)
