"""The command line: arguments in, exit code out. Imports all other rooms."""
