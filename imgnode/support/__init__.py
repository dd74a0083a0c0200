"""Collects what somebody elsewhere needs to understand this node, without its secrets."""
