"""What the tests of faults are written with."""
