"""Backups of what makes this node itself: taken, verified, brought back. restic does the work."""
