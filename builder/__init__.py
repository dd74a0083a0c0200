"""imgbuild: renders versioned, immutable Debian images for GPU inference nodes."""

__version__ = "0.1.0"
