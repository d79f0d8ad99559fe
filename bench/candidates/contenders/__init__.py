"""Others who recommend out of the same purchases, each in an environment of its own."""
