"""`python -m mockserver`."""

from mockserver.cli.entry import main

main()
