"""What is done after a failure: the table, a customer's tries, the run's retries, an endpoint's breaker."""
