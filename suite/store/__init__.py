"""Results on disk: one small folder per finished cell, its record, and the check that all is as it was written."""
