"""Boots images in QEMU and talks to the node inside: console, QMP, SSH, evidence."""
