"""The commands about the YAML."""
