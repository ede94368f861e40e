"""The tests of the pure core, of the memory and of the two routers."""
