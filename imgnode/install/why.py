"""Why an installation is refused, besides what an update may be refused for."""

from __future__ import annotations

DISK = "disk"  # none fits the rule, or more than one does
FOREIGN = "foreign"  # the disk holds data that nobody said may go
TABLE = "table"  # the partitions could not be made
ORDER = "order"  # the order cannot be understood, or had
