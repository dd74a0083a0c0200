"""Words that the child and those who ask it share; the child stays small by importing no more."""

from __future__ import annotations

from enum import StrEnum

SWITCH = "switch"  # the far end of a link


class State(StrEnum):
    """How far asking came."""

    OK = "ok"
    NO_BINDING = "nvidia-ml-py is not installed"
    NO_LIBRARY = "the driver's library is not installed"
    NO_DRIVER = "the driver is not loaded"
    MISMATCH = "library and kernel module are of different versions"
    HANGS = "the driver does not answer"
    FAILED = "the driver refuses"
