"""What builder and node share about releases: order of versions, sums, signatures, trees."""
