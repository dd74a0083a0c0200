"""Measures what many nodes cost the machine that controls them."""
