"""Samples of one utterance in, bytes of an audio format out, as they come. No I/O.

`new_stream_encoder` finds the format; what `CONTENT_TYPES` lists can be asked for.
"""
