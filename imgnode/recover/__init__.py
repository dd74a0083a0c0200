"""Mends the node by itself: what the health checks found, by the ladder, within limits."""
