"""The YAML: read, checked and compiled into routes and templates."""
