"""Reads, checks, skull-strips, registers and normalises a scan."""
