"""The real and the made-up data that the course draws."""
