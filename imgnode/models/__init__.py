"""Model weights on the node's disk: where they are, and how they get there."""
