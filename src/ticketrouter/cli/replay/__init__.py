"""`ticketrouter replay`: what a log of messages would have become under each of several policies.

Law of this package: every decision is `ticketrouter.replay`'s. `command` has the options and streams; `result`
what is remembered of a run; `tables` and `page` show it; `timeline` and `contacts` watch a run for the page, and
hold no more of it than the page does.
"""
