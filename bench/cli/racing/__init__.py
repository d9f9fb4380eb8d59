"""`axiom-bench choose` and `axiom_bench.choose`: a race of methods and layers on a user's images."""
