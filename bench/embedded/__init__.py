"""The offline default: drawn scenes, signals and volumes, and small trained CNNs. Imports errors
only.
"""
