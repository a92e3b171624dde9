"""The pure core: values in, values out. No await, clock, randomness, logging or network."""
