"""What is missing is run: searches and evaluations, by executors, with progress and cost."""
