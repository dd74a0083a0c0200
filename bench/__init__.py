"""Measures imgbuild against mkosi, side by side in one run."""
