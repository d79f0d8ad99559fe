"""The ways in: Prefect flows, their deployments, and the command line. They import the pipeline, never the reverse."""
