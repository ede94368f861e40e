"""Applications that use ticketrouter, each with its own tests."""
