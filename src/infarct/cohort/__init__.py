"""Processes many cases in parallel, resumes after interruptions and summarises the group."""
