"""The health gate: whether this version does its work here, and if not, whose matter it is."""
