"""WordNet's example sentences and our own sentence patterns in, a shuffled list of training texts
out.

Knows nothing of sound. The same seed and the same WordNet give the same list, and no text of
`heldout.txt` is in it.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from chatterbox.training import phrases

HELD_OUT = Path(__file__).with_name("heldout.txt")
WORDNET_PARTS = ("noun", "verb", "adj", "adv")
MAX_CHARS = 290
_CLEAN = re.compile(r"[A-Za-z][A-Za-z0-9 ,.;:!?'$%\-]*")
_ENDS = (".", "!", "?")
_PAST = {
    **{
        "find": "found",
        "keep": "kept",
        "send": "sent",
        "forget": "forgotten",
        "read": "read",
        "sell": "sold",
    },
    **{
        "buy": "bought",
        "bring": "brought",
        "choose": "chosen",
        "write down": "written down",
        "pay for": "paid for",
    },
    **{
        "think about": "thought about",
        "cancel": "canceled",
        "look at": "looked at",
        "talk about": "talked about",
    },
    **{"wait for": "waited for", "listen to": "listened to", "turn off": "turned off"},
}


@dataclass(frozen=True, slots=True)
class HeldOutText:
    """One line of the evaluation set; each stratum has several kinds."""

    stratum: str
    kind: str
    text: str


@cache
def held_out() -> tuple[HeldOutText, ...]:
    """The texts that are never trained on."""
    lines = HELD_OUT.read_text(encoding="utf-8").splitlines()
    rows = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return tuple(HeldOutText(stratum, kind, text) for stratum, kind, text in rows)


def fingerprint(text: str) -> str:
    """What two texts share if they differ only in case, spaces and punctuation."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


def _glosses(folder: Path) -> Iterator[str]:
    for part in WORDNET_PARTS:
        for line in (folder / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if not line.startswith("  ") and " | " in line:
                yield line.split(" | ", 1)[1].strip()


def _as_sentence(text: str) -> str | None:
    """A clean, capitalised, ended sentence, or nothing when the text is not plain English."""
    text = re.sub(r"\s+", " ", text.replace("`", "'").replace("--", ", ")).strip(" ;,-")
    text = re.sub(r" ([,.;:!?])", r"\1", text).replace(" ,", ",")
    if not _CLEAN.fullmatch(text) or len(text.split()) < 3 or len(text) > MAX_CHARS:
        return None
    ended = text if text.endswith(_ENDS) else text.rstrip(",;:") + "."
    return ended[0].upper() + ended[1:]


def wordnet_examples(folder: Path) -> list[str]:
    """The quoted example sentences of WordNet's glosses, without those that quote an author."""
    found: dict[str, None] = {}
    for gloss in _glosses(folder):
        for match in re.finditer(r'"([^"]+)"(\s*-)?', gloss):
            sentence = None if match[2] else _as_sentence(match[1])
            if sentence is not None:
                found.setdefault(sentence)
    return list(found)


def wordnet_definitions(folder: Path) -> list[str]:
    """The definitions: not sentences, but rare words in plain syntax."""
    found: dict[str, None] = {}
    for gloss in _glosses(folder):
        plain = re.sub(r"\([^)]*\)", "", gloss.split('"', 1)[0])
        sentence = _as_sentence(plain.split(";", 1)[0])
        if sentence is not None and 30 <= len(sentence) <= 140:
            found.setdefault(sentence)
    return list(found)


def _number(rng: random.Random) -> str:
    high = rng.choice((12, 30, 100, 100, 1000, 10_000, 1_000_000))
    value = rng.randint(1, high)
    return f"{value:,}" if rng.random() < 0.7 else str(value)


def _time(rng: random.Random) -> str:
    hour, minute = rng.randint(1, 12), rng.choice((0, 15, 30, 45, rng.randint(0, 59)))
    style = rng.random()
    if style < 0.3:
        return f"{hour} {rng.choice(('am', 'pm'))}"
    if style < 0.4:
        return f"{hour} o'clock"
    return f"{hour}:{minute:02d}" + rng.choice(("", " am", " pm"))


def _ordinal(rng: random.Random) -> str:
    value = rng.randint(1, 31)
    suffix = "th" if value in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{suffix}"


def _participle(verb: str) -> str:
    if verb in _PAST:
        return _PAST[verb]
    return verb + "d" if verb.endswith("e") else verb + "ed"


def _field(name: str, rng: random.Random) -> str:
    """One random filling of a pattern's `{name}`."""
    lists = {
        **{"first": phrases.FIRST_NAMES, "last": phrases.LAST_NAMES, "place": phrases.PLACES},
        **{
            "month": phrases.MONTHS,
            "day": phrases.DAYS,
            "thing": phrases.THINGS,
            "adj": phrases.ADJECTIVES,
        },
        **{"verb": phrases.VERBS, "activity": phrases.ACTIVITIES, "noun": phrases.NOUNS},
        **{"topic": phrases.TOPICS, "acronym": phrases.ACRONYMS, "opener": phrases.OPENERS},
    }
    if name.endswith("_cap"):
        filled = _field(name.removesuffix("_cap"), rng)
        return filled[0].upper() + filled[1:]
    if name in lists:
        return rng.choice(lists[name])
    if name == "past":
        return _participle(rng.choice(phrases.VERBS))
    numeric = {
        "num": lambda: _number(rng),
        "num3": lambda: str(rng.randint(100, 999)),
        "small": lambda: str(rng.randint(1, 20)),
        "digit": lambda: str(rng.randint(0, 9)),
        "dom": lambda: str(rng.randint(1, 28)),
        "year": lambda: str(rng.choice((rng.randint(1700, 1999), rng.randint(1950, 2030)))),
        "price": lambda: f"{rng.randint(1, 300)}.{rng.randint(0, 99):02d}",
        "percent": lambda: str(rng.randint(1, 100)),
        "temp": lambda: str(rng.randint(-10, 40)),
        "time": lambda: _time(rng),
        "ordinal": lambda: _ordinal(rng),
        "phone": lambda: (
            f"{rng.randint(200, 999)}-{rng.randint(200, 999)}-{rng.randint(1000, 9999)}"
        ),
    }
    return numeric[name]()


def filled(pattern: str, rng: random.Random) -> str:
    """The pattern with each `{field}` replaced by a random word or number of its kind."""
    return re.sub(r"\{(\w+)\}", lambda match: _field(match[1], rng), pattern)


def pattern_sentence(rng: random.Random) -> str:
    """One sentence from our own patterns."""
    return filled(rng.choice(phrases.PATTERNS), rng)


def _lower_start(sentence: str) -> str:
    first = sentence.split(" ", 1)[0].rstrip(",.!?")
    keeps = (
        first == "I"
        or first.startswith("I'")
        or first in phrases.FIRST_NAMES
        or first in phrases.PLACES
    )
    return sentence if keeps else sentence[0].lower() + sentence[1:]


def joined(sentences: list[str], rng: random.Random) -> str:
    """Several sentences as one long text: by connectors, commas or just one after the other."""
    text = sentences[0]
    for following in sentences[1:]:
        if rng.random() < 0.5 or not text.endswith("."):
            text = f"{text} {following}"
        else:
            text = f"{text[:-1]}{rng.choice(phrases.CONNECTORS)} {_lower_start(following)}"
    return text


def fragment(sentence: str, rng: random.Random) -> str:
    """A few words out of a sentence, as a segmenter cuts when it must not wait for the end."""
    words = sentence.split()
    length = rng.randint(2, min(9, max(2, len(words) - 1)))
    start = 0 if rng.random() < 0.6 else rng.randint(0, max(0, len(words) - length))
    return " ".join(words[start : start + length]).rstrip(",.;:!?")


class _Pool:
    """Sentences dealt in random order, again from the start when all are used."""

    def __init__(self, sentences: list[str], rng: random.Random) -> None:
        self._sentences = sentences
        self._used = 0
        rng.shuffle(self._sentences)

    def take(self) -> str:
        self._used += 1
        return self._sentences[(self._used - 1) % len(self._sentences)]


def _candidate(examples: _Pool, definitions: _Pool, rng: random.Random) -> str:
    """One text of a random kind."""
    kind = rng.random()
    if kind < 0.34:
        return examples.take()
    if kind < 0.44:
        return definitions.take()
    if kind < 0.62:
        return pattern_sentence(rng)
    if kind < 0.72:
        return fragment(examples.take() if rng.random() < 0.5 else pattern_sentence(rng), rng)
    num_parts = rng.choice((2, 2, 3, 3, 4, 5))
    parts = [
        pattern_sentence(rng) if rng.random() < 0.3 else examples.take() for _ in range(num_parts)
    ]
    return joined(parts, rng)


def training_texts(wordnet: Path, *, num_texts: int, seed: int) -> list[str]:
    """The corpus: `num_texts` different texts in random order, none of them held out."""
    rng = random.Random(seed)
    examples = _Pool(wordnet_examples(wordnet), rng)
    definitions = _Pool(wordnet_definitions(wordnet), rng)
    forbidden = [fingerprint(item.text) for item in held_out()]
    seen: set[str] = set()
    texts: list[str] = []

    def add(text: str) -> None:
        mark = fingerprint(text)
        if mark and mark not in seen and not any(held in mark for held in forbidden):
            seen.add(mark)
            texts.append(text)

    for short in phrases.SHORT:
        add(short)
    while len(texts) < num_texts:
        text = _candidate(examples, definitions, rng)
        if len(text) <= MAX_CHARS:
            add(text)
    rng.shuffle(texts)
    return texts[:num_texts]
