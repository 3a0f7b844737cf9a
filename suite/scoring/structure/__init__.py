"""Is a circuit stable, is it the only one, and is it more than what any model would give?"""
