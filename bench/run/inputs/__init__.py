"""Where a job's images come from: files of a store, and the cache of decoded images."""
