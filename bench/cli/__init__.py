"""The command line: arguments in, exit code out. This package imports all others."""
