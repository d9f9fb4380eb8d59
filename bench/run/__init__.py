"""The runner: cuts a benchmark into shards, computes what is missing, and writes down what was done."""
