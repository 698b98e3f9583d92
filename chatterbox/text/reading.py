"""A segment → what a front end makes of its text, once tags and lexicons have had their say.

The same for every front end. Knows no tokens and no model.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from chatterbox.api import Segment
from chatterbox.text.front_end import Encoded, FrontEnd, TextWarning, TokenSpan
from chatterbox.text.lexicon import LONGEST_TEXT_CHARS, Rewritten, rewrite
from chatterbox.text.tags import with_tags

_RUN: Final = re.compile(r"\S+")


def read(front_end: FrontEnd, segment: Segment) -> Encoded:
    """The tokens of a segment. Tags of other models are left out, not spoken as words; those that a
    lexicon puts in as well.
    """
    tagged = with_tags(segment.text, front_end.tags)
    rewritten = rewrite(
        tagged.text, segment.lexicons, spared=tagged.places, phonemes=front_end.phonemes
    )
    put_in = with_tags(rewritten.text, front_end.tags)
    encoded = front_end.encode(put_in.text, segment.language, rewritten.sounds)
    left_out = dict.fromkeys((*tagged.left_out, *put_in.left_out))
    return replace(
        encoded,
        warnings=[*_complaints(left_out, rewritten), *encoded.warnings],
        words=_as_written(encoded.words, rewritten, segment.text),
    )


def _complaints(tags: Iterable[str], rewritten: Rewritten) -> Iterable[TextWarning]:
    for tag in tags:
        yield TextWarning("skipped_tag", f"left out: this model has no {tag}")
    for word in rewritten.unsaid:
        message = f"this model has no such phonemes as the lexicon asks for in {word!r}"
        yield TextWarning("lexicon_phonemes", message)
    for word in rewritten.no_room:
        message = (
            f"read as written: {word!r}; with what the lexicon says the segment would have more"
            f" than {LONGEST_TEXT_CHARS} characters"
        )
        yield TextWarning("lexicon_too_long", message)


def _as_written(words: Sequence[TokenSpan], rewritten: Rewritten, text: str) -> Sequence[TokenSpan]:
    """The same tokens for the words of the text as written. Several words that stand for one
    become one.
    """
    if not rewritten.edits:
        return words
    runs = [match.span() for match in _RUN.finditer(text)]
    found: list[TokenSpan] = []
    for word in words:
        spans = [rewritten.as_written(start, end) for start, end in word.runs]
        touched = tuple(
            run for run in runs if any(run[0] < end and start < run[1] for start, end in spans)
        )
        if found and found[-1].runs[-1] in touched:
            before = found.pop()
            touched = (*before.runs, *(run for run in touched if run not in before.runs))
            word = replace(word, first=before.first)
        found.append(replace(word, runs=touched))
    return found
