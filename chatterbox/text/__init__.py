"""The text of a segment → what a voice says: spoken words, then phonemes or tokens. No torch."""
