"""Every schedule of a few concurrent operations, over memory and over models of the databases' isolation."""
