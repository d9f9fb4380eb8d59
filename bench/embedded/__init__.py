"""The offline default: drawn scenes, and two small trained CNNs. Imports errors only."""
