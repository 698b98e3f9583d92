"""Text tokens → speech tokens."""
