"""The commands of `infarct`, one module each."""
