"""The chapters of a report: their tables, figures and words."""
