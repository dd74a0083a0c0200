"""Maintenance: a person works on the node, and what is tidied by itself."""
