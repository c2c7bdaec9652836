"""Draw the README's picture from the results of a demo run.

Run: secateur demo && python benchmarks/readme_picture.py [secateur-demo/results.json]
"""

from __future__ import annotations

import sys
from pathlib import Path

from secateur.report import read_runs, write_picture

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "demo.svg"
SHOWN = "neurons · magnitude · percentile 50 · static"


def main() -> None:
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "secateur-demo/results.json")
    runs = [run for run in read_runs(results) if run.model == "mlp" and run.configuration == SHOWN]
    print(write_picture(PICTURE, runs))


if __name__ == "__main__":
    main()
