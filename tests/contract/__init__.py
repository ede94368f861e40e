"""What every repository must do, on every back end, and what comes of it where several work at once."""
