"""A command line as settings: composed by Hydra, checked, with its device."""
