"""Other libraries' CAMs as methods, named `method@library`.

Each library has one file, and one YAML in conf/peers/. They need the extra `peers`, work on a
copy of the network, and import only `explanation` and `cutting`.
"""
