"""What is explained of a network: scores from what it returns, and functions of its logits."""
