"""What flows cost and outlive: orchestration, memory, killed workers, cancelling, first rows, the whole line."""
