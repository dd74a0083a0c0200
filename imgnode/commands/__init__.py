"""One module for each group of subcommands; each has `add`, which the CLI calls."""
