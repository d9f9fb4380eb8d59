"""What both ways to solve `imputation` share."""

EDGE_WEIGHT, CORNER_WEIGHT = 1 / 6, 1 / 12
# Energy norm of the error, relative to the range of the observed pixels. It doesn't bound the error of a single pixel
# in a large hole with observed pixels on one side only; in such holes of 70 and 90 % of 224 x 224 pixels of unit
# variance, no error was above 7e-4.
TOLERANCE = 5e-5
MAX_ITERATIONS = 40  # photographs take 10 to 20
COARSEST_SIDE = 8  # pixels
JACOBI_SWEEPS = 8  # on the coarsest grid
OVERCORRECTION = 1.5  # blocks of equal corrections are too stiff: a smooth correction has half their energy
