"""Under a provider's limits: what a run loses, how long it takes, how often it is refused, beside the bare client."""
