"""The audit of a CAM implementation: which formula it computes, and what it does to the model."""
