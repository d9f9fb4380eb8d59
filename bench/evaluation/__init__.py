"""From one trace to many values: `shard` goes through batches, `batch` through methods, `measurement` through metrics,
and `answers` asks the model what metrics request. Imports explanation, cutting and data's Batch.
"""
