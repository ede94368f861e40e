"""`python -m ticketrouter.cli`: the same as the command `ticketrouter`."""

from ticketrouter.cli import main

main()
