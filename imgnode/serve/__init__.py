"""Serving: one container with vLLM, from the config in force, watched to its first token."""
