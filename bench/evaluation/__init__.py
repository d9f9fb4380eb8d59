"""From one trace to many values: `batch` goes through batches and methods, `measurement` through metrics, and `answers`
asks the model what metrics request. Imports explanation, cutting and data's Batch.
"""
