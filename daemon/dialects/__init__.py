"""Clients of other services, as they are: one file a dialect, each over `daemon/studio.py` alone.

No dialect knows another, and none knows the engine.
"""
