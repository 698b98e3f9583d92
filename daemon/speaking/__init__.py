"""Text of one utterance in, its speech in order out: pauses, segments, words and their times."""
