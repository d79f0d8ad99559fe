"""Keeps to what an endpoint allows, over all processes: requests at a time, and requests and tokens a minute."""
