"""Writes a disk image to a USB stick or a disk, and proves that it is there."""
