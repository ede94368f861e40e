"""The tests, in rooms; each says what it is about, and `support` holds what they are written with."""
