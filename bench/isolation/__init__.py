"""Runs foreign code, such as another library's or a user's CAM, so that nothing of it stays.

`sandbox` gives the code a copy of the network, and `global_state` restores the process.
"""
