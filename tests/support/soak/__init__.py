"""Hours of trouble in minutes: workers and servers killed under load, and the books checked afterwards."""
