"""What the package brings along so that it works with nothing downloaded: drawn scenes and two small trained CNNs."""
