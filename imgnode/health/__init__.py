"""What goes on while the node works: checks that repeat, and what each finds."""
