"""The examination of a network and its data before anything is computed."""
