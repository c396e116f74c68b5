"""Keeps the conventions of this repository true. Prints every breach as file:line: what to do instead.

    tidy_test.py [--compiler CXX] [--generated-headers DIR]

DIR is <build>/include, which holds plait/detail/export.hpp; without it the newest build directory is taken.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LONGEST_FILE = 900  # lines

CODE = {".hpp", ".cpp", ".h", ".c"}
DATA = {".json", ".svg"}  # may be as long as they like
BINARY = {".png", ".jpg", ".gif", ".ico", ".bin", ".gz"}

STANDARD_HEADERS = set("""
    algorithm any array atomic barrier bit bitset cassert cctype cerrno cfloat charconv chrono cinttypes climits cmath
    compare complex concepts condition_variable coroutine csignal cstdarg cstddef cstdint cstdio cstdlib cstring ctime
    deque exception expected filesystem format forward_list functional future initializer_list iomanip ios iosfwd
    iostream istream iterator latch limits list locale map memory memory_resource mutex new numbers numeric optional
    ostream queue random ranges ratio regex scoped_allocator semaphore set shared_mutex source_location span sstream
    stack stdexcept stop_token streambuf string string_view syncstream system_error thread tuple type_traits typeindex
    typeinfo unordered_map unordered_set utility valarray variant vector version
    """.split())

# What may be included where, beside the standard library. The first pattern that fits the file's path counts.
# A layer sees only what stands below it:  examples -> include/plait <- src -> platform/driver.hpp <- platform/<system>
ALLOWED_INCLUDES = [
    (r"include/plait/fmt\.hpp", r"plait/|fmt/"),
    (r"include/plait/", r"plait/"),
    (r"src/", r"plait/|platform/driver\.hpp$|src/"),
    (r"platform/simulated/", r"plait/|platform/\w+\.hpp$|platform/simulated/"),
    (r"platform/driver\.hpp", r"plait/"),
    (r"platform/", r""),  # a system's own folder: its own headers are checked below
    (r"examples/", r"plait/|fmt/|examples/|\w+\.hpp$"),
]
# Where the rest of the tree (tests, benchmarks, fuzz) is free, this is still out of bounds.
FORBIDDEN_INCLUDES = [
    (r"(?!platform/|benchmarks/|tests/support/linux/faults\.cpp)", r"liburing", "liburing appears under platform/ alone"),
    (r"(?!platform/|tests/(support/)?windows/)", r"(windows|winsock2?|ws2\w+|mswsock|mstcpip|afunix)\.h$",
     "Windows appears under platform/ alone"),
    (r"(?!tests/|platform/)", r"platform/\w+/", "nobody but a platform itself and the tests includes a platform folder"),
    (r"platform/linux/", r"platform/(?!linux/|\w+\.hpp$)", "a platform includes what all share, and its own folder"),
    (r"platform/windows/", r"platform/(?!windows/|\w+\.hpp$)", "a platform includes what all share, and its own folder"),
    (r"platform/", r"src/", "a platform sees platform/driver.hpp and include/plait, never src"),
    (r"platform/", r"fmt/", "only include/plait/fmt.hpp includes fmt"),
    (r"include/plait/(framing|codec)\.hpp", r"plait/(tcp|udp|unix|resolve|serve)\.hpp",
     "framing stands on stream.hpp and result.hpp, so that any stream can carry it"),
    (r"include/plait/plait\.hpp", r"plait/fmt\.hpp", "plait.hpp must compile where fmt is not installed"),
]

PLATFORM_MACROS = r"\b(_WIN32|_WIN64|WIN32|_MSC_VER|__MINGW\d+__|__linux__|__linux|linux|__unix__|__APPLE__|__FreeBSD__)\b"

breaches: list[str] = []


def breach(file: Path, line: int, advice: str) -> None:
    where = f"{file.relative_to(TOP)}:{line}" if line else f"{file.relative_to(TOP)}"
    breaches.append(f"{where}: {advice}")


def name_of(file: Path) -> str:
    return file.relative_to(TOP).as_posix()


def files_of_the_tree() -> list[Path]:
    git = subprocess.run(["git", "-C", str(TOP), "ls-files", "--cached", "--others", "--exclude-standard"],
                         capture_output=True, text=True)
    if git.returncode == 0:
        found = [TOP / name for name in git.stdout.splitlines()]
    else:  # an unpacked archive
        found = [file for file in TOP.rglob("*") if file.relative_to(TOP).parts[0] not in ("build", ".git")]
    return sorted(file for file in found if file.is_file() and file.suffix not in BINARY)


def check_text(file: Path, text: str) -> None:
    lines = text.split("\n")
    if len(lines) - 1 > LONGEST_FILE and file.suffix not in DATA and file.name != "LICENSE":
        breach(file, 0, f"{len(lines) - 1} lines: split what is longer than {LONGEST_FILE}")
    if text and not text.endswith("\n") and file.suffix not in DATA:
        breach(file, len(lines), "end the file with a newline")
    if text.endswith("\n\n"):
        breach(file, len(lines), "no blank lines at the end of a file")
    somebodys_paths = re.compile(
        "|".join([re.escape(str(TOP)) + r"\b", r"(?<![\w.~}])/(home|Users|root)/\w", r"\b[A-Z]:\\Users\\"]))
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            breach(file, number, "indent with spaces, write a tab in a string as \\t")
        if line != line.rstrip():
            breach(file, number, "no blanks at the end of a line")
        if file != Path(__file__).resolve() and somebodys_paths.search(line):
            breach(file, number, "no absolute path of one machine")


def check_includes(file: Path, lines: list[str]) -> None:
    name = name_of(file)
    allowed = next((rule for pattern, rule in ALLOWED_INCLUDES if re.match(pattern, name)), "")
    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        if match is None:
            continue
        included = match.group(1)
        if allowed and included not in STANDARD_HEADERS and not re.match(allowed, included):
            breach(file, number, f"<{included}> is out of bounds here: the standard library and {allowed} only")
        for pattern, forbidden, reason in FORBIDDEN_INCLUDES:
            if re.match(pattern, name) and re.match(forbidden, included):
                breach(file, number, f"<{included}>: {reason}")


def check_code(file: Path, text: str) -> None:
    lines = text.split("\n")
    check_includes(file, lines)
    name = name_of(file)
    if not name.startswith(("platform/", "benchmarks/")):
        for number, line in enumerate(lines, 1):
            if re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", line) and re.search(PLATFORM_MACROS, line):
                breach(file, number, "no #if of a platform outside platform/ and CMake: move it behind platform/driver.hpp")
    if file.suffix == ".hpp" and next((line for line in lines if line.strip()), "") != "#pragma once":
        breach(file, 1, "a header begins with #pragma once")


def public_headers() -> list[Path]:
    return sorted((TOP / "include" / "plait").rglob("*.hpp"))


def check_public_headers() -> None:
    umbrella = TOP / "include" / "plait" / "plait.hpp"
    umbrella_text = umbrella.read_text(encoding="utf-8") if umbrella.exists() else ""
    for header in public_headers():
        path = header.relative_to(TOP / "include").as_posix()
        if "/detail/" in path or header == umbrella:
            continue
        test = TOP / "tests" / f"{header.stem}_test.cpp"
        if not test.exists():
            breach(header, 0, f"write its test, {test.relative_to(TOP)}")
        if path != "plait/fmt.hpp" and not path.startswith("plait/testing/") and f"<{path}>" not in umbrella_text:
            breach(header, 0, "include it in include/plait/plait.hpp")


def newest_generated_headers() -> Path | None:
    found = sorted(TOP.glob("build/*/include"), key=lambda directory: directory.stat().st_mtime)
    return found[-1] if found else None


def check_that_headers_stand_alone(compiler: str, generated: Path) -> None:
    def compile_alone(header: Path) -> None:
        path = header.relative_to(TOP / "include").as_posix()
        flags = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{TOP / 'include'}", f"-I{generated}"]
        with tempfile.NamedTemporaryFile("w", suffix=".cpp") as source:
            source.write(f"#include <{path}>\n#include <{path}>\n")
            source.flush()
            done = subprocess.run([compiler, *flags, source.name], capture_output=True, text=True)
        if path == "plait/fmt.hpp" and re.search(r"fatal error: fmt/\S+: No such file", done.stderr):
            return  # fmt is not installed
        if done.returncode != 0:
            breach(header, 0, "does not compile on its own:\n" + done.stderr.strip())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_alone, public_headers()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="c++")
    parser.add_argument("--generated-headers", type=Path, default=newest_generated_headers())
    arguments = parser.parse_args()

    files = files_of_the_tree()
    for file in files:
        try:
            text = file.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            breach(file, 0, f"not UTF-8: {error}")
            continue
        check_text(file, text)
        if file.suffix in CODE:
            check_code(file, text)
    check_public_headers()
    if arguments.generated_headers is None:
        print("tidy: no build directory, so the headers are not compiled one by one (run ./dev build first)")
    else:
        check_that_headers_stand_alone(arguments.compiler, arguments.generated_headers)

    for line in sorted(breaches):
        print(line)
    print(f"tidy: {len(files)} files, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
