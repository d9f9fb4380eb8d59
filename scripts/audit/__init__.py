"""Other libraries' methods and metrics beside this project's, on the same networks and images; see README.md.

May import everything; nothing imports it but its tests.
"""
