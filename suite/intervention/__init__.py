"""What cutting an edge means: what it carries, what a run is scored by, in which setting, and the runs behind it."""
