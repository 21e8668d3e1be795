"""`python -m minit2i`."""

from .cli import main

main()
