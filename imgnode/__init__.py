"""What runs on the node: identity, and what persists of /etc."""
