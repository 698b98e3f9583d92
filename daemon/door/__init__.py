"""Connections in; those that may come in, and answers to plain requests, out."""
