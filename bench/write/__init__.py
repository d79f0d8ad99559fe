"""What durable rows cost, and what readers see of a million customers: recstream's writer beside plain ones."""
