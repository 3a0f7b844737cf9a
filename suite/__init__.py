"""The machinery: engine, methods, scores, harness, command line."""
