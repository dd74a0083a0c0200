"""What lies outside the root: layer files, their mounts, and Docker's store made of them."""
