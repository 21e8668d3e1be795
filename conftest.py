"""For every test and every notebook: figures are compared, shapes checked, one thread a worker."""

import os

pytest_plugins = ["tests.killrate", "tests.nbfigures", "tests.shapes"]

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers fill the machine, their kernels inherit this
    os.environ.setdefault("OMP_NUM_THREADS", "1")
