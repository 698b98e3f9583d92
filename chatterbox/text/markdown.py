"""What is left of Markdown and HTML in a piece of text → the words alone.

A piece may hold half of a pair, because the text was cut before: each mark is removed by itself.
"""

import re
from typing import Final

from chatterbox.text.rules import Rule, apply

_BLOCKS: Final = (
    Rule(re.compile(r"^[ \t]{0,8}(?:`{3,}|~{3,})[^\n`]{0,40}$", re.M), "", hint="`~"),
    Rule(re.compile(r"^[ \t]*(?:[-*_=][ \t]?){3,}$", re.M), "", hint="-*_="),
    Rule(re.compile(r"^[ \t]*\|?(?:[ \t]*:?-{2,}:?[ \t]*\|)+[ \t:-]*$", re.M), "", hint="|"),
    Rule(re.compile(r"^[ \t]*(?:>[ \t]?)+", re.M), "", hint=">"),
    Rule(re.compile(r"^[ \t]*#{1,6}[ \t]+", re.M), "", hint="#"),
    Rule(re.compile(r"[ \t]#{1,6}[ \t]*$", re.M), "", hint="#"),
    Rule(re.compile(r"^[ \t]*[-*+•][ \t]+(?:\[[ xX]\][ \t]+)?", re.M), "", hint="-*+•"),
    Rule(re.compile(r"^([ \t]*\d{1,3})\)(?=\s)", re.M), r"\1.", hint=")"),
)
_INLINE: Final = (
    Rule(
        re.compile(r"!?\[([^\[\]]{0,300})\]\([^()\s]{0,2000}(?: \"[^\"]{0,200}\")?\)"),
        r"\1",
        hint="[",
    ),
    Rule(re.compile(r"\[\^?\d{1,3}\]"), "", hint="["),
    Rule(re.compile(r"<(https?://[^<>\s]{1,2000})>"), r"\1", hint="<"),
    Rule(re.compile(r"<br ?/?>", re.I), ", ", hint="<"),
    Rule(re.compile(r"</?[A-Za-z][A-Za-z0-9]{0,12}(?: [^<>]{0,200})?/?>"), "", hint="<"),
    Rule(re.compile(r"\*\*+(?!\d)|~~+"), "", hint="*~"),
    Rule(re.compile(r"(?<!\w)_{1,3}(?=\S)|(?<=[^\s_])_{1,3}(?!\w)"), "", hint="_"),
    Rule(re.compile(r"(?<![\d\s])\*|\*(?![\d\s])|(?<!\d)(?<!\d )\*(?=\s)"), "", hint="*"),
    Rule(re.compile(r"`+"), "", hint="`"),
    Rule(re.compile(r"^[ \t]*\|[ \t]*|[ \t]*\|[ \t]*$", re.M), "", hint="|"),
    Rule(re.compile(r"[ \t]*\|+[ \t]*"), ", ", hint="|"),
)


def without_markup(text: str) -> str:
    return apply(_INLINE, apply(_BLOCKS, text))
