"""Faults that befall small runs - kills, signals, full disks - and what is left of their records afterwards."""
