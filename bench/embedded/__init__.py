"""The offline default: drawn scenes, signals and volumes, and small trained CNNs.

They let a first run, the tests and the gate work without a download. This package imports only
`errors`.
"""
