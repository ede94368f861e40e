"""The inbound side of a Whaticket desk: Flask, over the tables that are there."""
