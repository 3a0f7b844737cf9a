"""Results on disk: one small folder a finished cell, its record, and the check that all of it is as it was written."""
