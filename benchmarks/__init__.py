"""Messages a second: ours beside the driver, beside bare SQLAlchemy, and beside what people write by hand.

Law of this package: nothing is asserted here. Whatever is compared runs in one go, in turns of a fraction of a
second, on servers with full durability; a figure is a median over turns. It knows the library as a host does.

- `cells`: what is measured: which contender, in which shape, on which stand.
- `stands`: the servers, and the databases with so many tickets in them.
- `contenders`: the ways to find the ticket of a message.
- `measuring`: the client processes, and their turns.
- `in_memory`: the core without a database.
- `profiling`: in which functions the time goes.
- `cost`: what a message costs the servers too, for the page on scaling; it runs by itself.
- `figures`, `goals`, `report`, `pictures`: what was measured, and what it says.
"""
