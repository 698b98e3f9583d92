"""Clips of strangers in, voices that their owners may use out; made in a process of its own."""
