"""The commands: parse, call the core, show, exit."""
