"""Models by name, from the hub, spread over devices and sharded over processes."""
