"""Makes the API reference with Doxygen; whatever it has to say against a comment is an error.

    build_reference.py DIR

The pages are then in DIR/html. Exit code 77: skipped, because Doxygen is not installed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    if not shutil.which("doxygen"):
        print("Doxygen is not installed (Debian's package is doxygen)")
        return 77
    pages = Path(sys.argv[1]).resolve()
    shutil.rmtree(pages / "html", ignore_errors=True)
    pages.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["doxygen", "docs/Doxyfile"], cwd=TOP, capture_output=True, text=True,
                          env={**os.environ, "PLAIT_REFERENCE_DIR": str(pages)})
    said = done.stderr.strip()
    if said or done.returncode:
        print(said.replace(f"{TOP}/", ""), f"\nDoxygen ended with {done.returncode}", file=sys.stderr)
        return 1
    print(pages / "html" / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
