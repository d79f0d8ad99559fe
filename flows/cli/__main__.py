"""`python -m flows.cli` is `recstream`."""

from flows.cli import main

main()
