"""Measures what an update costs a node: bytes, seconds, processor time and memory."""
