"""Installs plait, static or shared, into a fresh prefix and builds strangers' programs against it.

    run.py static|shared --cmake CMAKE --compiler CXX --work-dir DIR

One program finds the library with find_package(plait), the other with pkg-config. Both are run. The prefix is moved
after the installation, because an installed tree must not remember where it was built.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent


def run(*command, **more_environment) -> str:
    words = [str(word) for word in command]
    print("+", " ".join(words), flush=True)
    done = subprocess.run(words, env={**os.environ, **more_environment}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(done.stdout, flush=True)
    if done.returncode != 0:
        sys.exit(f"failed with {done.returncode}: {' '.join(words)}")
    return done.stdout


def install(arguments, prefix: Path) -> None:
    build = arguments.work_dir / "build"
    first = arguments.work_dir / "first_prefix"
    run(arguments.cmake, "-S", TOP, "-B", build, "-G", "Ninja",
        f"-DCMAKE_CXX_COMPILER={arguments.compiler}",
        f"-DBUILD_SHARED_LIBS={'ON' if arguments.kind == 'shared' else 'OFF'}",
        "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_INSTALL_PREFIX={first}",
        "-DPLAIT_BUILD_TESTS=OFF", "-DPLAIT_BUILD_EXAMPLES=OFF", "-DPLAIT_BUILD_BENCHMARKS=OFF")
    run(arguments.cmake, "--build", build)
    run(arguments.cmake, "--install", build)
    first.rename(prefix)


def library_dir(prefix: Path) -> Path:
    (description,) = prefix.glob("**/pkgconfig/plait.pc")
    return description.parent.parent


def try_find_package(arguments, prefix: Path) -> None:
    build = arguments.work_dir / "with_find_package"
    run(arguments.cmake, "-S", HERE, "-B", build, "-G", "Ninja",
        f"-DCMAKE_CXX_COMPILER={arguments.compiler}", f"-DCMAKE_PREFIX_PATH={prefix}")
    run(arguments.cmake, "--build", build)
    run(build / "consumer")
    run(build / "signatures")


def try_pkg_config(arguments, prefix: Path) -> None:
    program = arguments.work_dir / "with_pkg_config"
    libraries = library_dir(prefix)
    # Who links a static library must ask for what stands behind it.
    static = ["--static"] if arguments.kind == "static" else []
    flags = run("pkg-config", *static, "--cflags", "--libs", "plait", PKG_CONFIG_PATH=str(libraries / "pkgconfig"))
    run(arguments.compiler, "-std=c++20", HERE / "main.cpp", "-o", program, *shlex.split(flags))
    run(program, LD_LIBRARY_PATH=str(libraries))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["static", "shared"])
    parser.add_argument("--cmake", default="cmake")
    parser.add_argument("--compiler", default="c++")
    parser.add_argument("--work-dir", type=Path, required=True)
    arguments = parser.parse_args()

    # The build directory stays, which makes the next run quick; everything that the test looks at is new.
    for old in ("first_prefix", "prefix", "with_find_package"):
        shutil.rmtree(arguments.work_dir / old, ignore_errors=True)
    arguments.work_dir.mkdir(parents=True, exist_ok=True)

    prefix = arguments.work_dir / "prefix"
    install(arguments, prefix)
    try_find_package(arguments, prefix)
    try_pkg_config(arguments, prefix)


if __name__ == "__main__":
    main()
