"""The actors: trio tasks fed by bounded channels, whose facts are folded from the event log."""
