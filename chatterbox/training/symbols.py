"""The text tokens of the bundled voice: one per phoneme character that the front end can write."""

PADDING = 0
START = 1
STOP = 2
NAMES = ("<pad>", "<start>", "<stop>")
PHONEMES = ' !,.:;?—…"()“”AIOQWYTbdfhijklmnpstuvwzæðŋɐɑɒɔəɛɜɡɪɹɾʃʊʌʒʔʤʧʰʲˈˌːˑθᵊᵻβaegorx'  # noqa: RUF001 (phonetic letters)


def symbol_table() -> tuple[str, ...]:
    """`symbol_table()[i]` is text token i."""
    assert len(set(PHONEMES)) == len(PHONEMES)
    return (*NAMES, *PHONEMES)


def symbol_ids() -> dict[str, int]:
    return {symbol: index for index, symbol in enumerate(symbol_table())}
