"""For who writes the YAML; the running relay imports none of it."""
