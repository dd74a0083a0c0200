"""Tells people that a node needs them: webhook, mail, console and login."""
