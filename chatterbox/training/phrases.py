"""`phrases.txt` in, the words and sentence patterns of the corpus's generated half out."""

from pathlib import Path

SOURCE = Path(__file__).with_name("phrases.txt")


def _lists() -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    name = ""
    for line in SOURCE.read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1]
            lists[name] = []
        elif line and not line.startswith("#"):
            lists[name].append(line)
    return lists


_LISTS = _lists()
FIRST_NAMES = _LISTS["first_names"]
LAST_NAMES = _LISTS["last_names"]
PLACES = _LISTS["places"]
MONTHS = _LISTS["months"]
DAYS = _LISTS["days"]
THINGS = _LISTS["things"]
ADJECTIVES = _LISTS["adjectives"]
VERBS = _LISTS["verbs"]
ACTIVITIES = _LISTS["activities"]
NOUNS = _LISTS["nouns"]
TOPICS = _LISTS["topics"]
ACRONYMS = _LISTS["acronyms"]
OPENERS = _LISTS["openers"]
CONNECTORS = _LISTS["connectors"]
SHORT = _LISTS["short"]
PATTERNS = _LISTS["patterns"]
