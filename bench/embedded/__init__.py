"""The drawn scenes, signals and volumes, and the small CNNs, that are the offline default.

They let a first run, the tests and the gate work without a download. This package imports only
`errors`.
"""
