"""A route and an event become one message."""
