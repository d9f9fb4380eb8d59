"""The cut model and its parts, the trace of a pass, exact ablation, precision. Imports errors only."""
