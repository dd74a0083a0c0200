"""The form of what the node keeps on /var: its number, and the way from one form to the next."""
