"""The offline default: drawn scenes, signals and volumes, and small trained CNNs. This package
imports only `errors`.
"""
