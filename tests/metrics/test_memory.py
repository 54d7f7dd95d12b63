"""Memory that metrics of features take does not grow with the number of images."""

import subprocess
import sys

import pytest

FEW, MANY, MIB = 600, 6000, 24
SCRIPT = """
import resource, sys, torch
from chexdist.metrics import METRICS
torch.set_num_threads(1)
formula, peaks = METRICS[sys.argv[1]].formula, []
for n in map(int, sys.argv[2:]):
    real, generated = torch.randn(n // 2, 32), torch.randn(n, 32)
    patients = [i // 2 for i in range(n // 2)]
    formula.measure(real, generated, patients)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(peaks[1] - peaks[0])
"""


@pytest.mark.parametrize(
    "metric", ["kid_x1000", "kid_all_pairs_x1000", "precision_k5", "recall_k5", "feature_distance"]
)
def test_ten_times_the_images_take_no_more(metric: str) -> None:
    """The weights of all images alone would take 47 MiB more, a matrix of all pairs 275 MiB."""
    command = [sys.executable, "-c", SCRIPT, metric, str(FEW), str(MANY)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert float(result.stdout) < MIB
