"""The sensitivity card: its tables, its words and its figure."""
