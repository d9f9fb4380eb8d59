"""What a job computes: the values of its shards, values of the whole data set, run times and pictures."""
