"""`python -m neardup` is `neardup`."""

from neardup.cli import main

main()
