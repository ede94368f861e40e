"""A repository of tickets over the module sqlite3, with no other library, held to the contract by the kit."""
