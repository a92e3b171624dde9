"""The store on SQLite, and all that only SQLite needs."""
