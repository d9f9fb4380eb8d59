"""The paper's figures and tables from a run: one file each, and an index that says what each shares with the paper."""
