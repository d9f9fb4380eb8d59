"""Other libraries' CAMs as methods, named `method@library`: one file a library, one YAML in
conf/peers/ each.

They need the extra `peers`, work on a copy of the network, and import explanation and cutting.
"""
