"""A race of methods and layers on a user's images: `axiom-bench choose`, `axiom_bench.choose`."""
