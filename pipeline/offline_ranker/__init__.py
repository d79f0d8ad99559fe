"""A stand-in for a language model: an HTTP server in a process of its own that speaks the OpenAI wire.

It ranks by word overlap, says so wherever it can, and can be told to misbehave. `process.offline_ranker`
starts one as a child process; `python -m pipeline.offline_ranker` is one.
"""
