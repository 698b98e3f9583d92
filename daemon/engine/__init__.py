"""Segments of all utterances in, steps of one engine out: its thread, its scheduler, its faults."""
