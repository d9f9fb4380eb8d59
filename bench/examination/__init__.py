"""What is found about a network and its data before anything is computed."""
