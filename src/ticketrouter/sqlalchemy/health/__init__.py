"""What is wrong with a host's tickets table, and what mends it: `audit`, `repair`, `ddl`.

Law of this package: it reads, and writes plans that it never sends. What a database has of its own is asked of its room.
"""
