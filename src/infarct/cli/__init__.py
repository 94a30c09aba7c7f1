"""Command-line interface and terminal output."""
