"""Values that every part reads the same way: numbers, instants, durations, texts, phones, paths."""
