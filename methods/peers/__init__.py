"""Other libraries' CAMs as methods, named `method@library`: one file a library, one YAML in conf/peers/ each.

They need the extra `peers`, and work on a copy of the network.
"""
