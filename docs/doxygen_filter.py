"""Prepares a header of plait's for Doxygen, which calls it with the file's name and reads the result on stdout.

The headers are written for people. What Doxygen wants besides is added here, without moving a line, so that its
warnings name the right ones:

- The comment at a header's top is about the file.
- A comment stands for every declaration below it, up to a blank line or the next comment.
- Copying, moving, comparing and the like need no words.
- What only compilers and the library itself call is not shown: a coroutine's machinery, and what stands below a
  comment that begins with "For the library", "For serve.hpp" or the like.
- `namespace detail` is not shown, except in stream_socket.hpp: there stand the verbs that every stream has. Nor are
  specialisations of other libraries' templates, which Doxygen 1.9 takes for classes that it cannot find.
"""

import re
import sys
from pathlib import Path

INTERNAL = re.compile(r"\s*// For (the library|\w+\.[ch]pp)\b")
NO_DECLARATION = re.compile(r"\s*(#|//|\}|(public|private|protected):|friend (?!.*operator)|"
                            r"namespace\b|static_assert|extern\b|class \w+;|using (\w+::)+\w+;|using namespace\b)")
OPENS_CLASS = re.compile(r"(template <.*> )?(requires.*\)\s*)?(class|struct|enum|union)\b")

# Declarations that say what they are.
PRIVATE = "@private"
EVIDENT = [(re.compile(pattern), words) for pattern, words in (
    (r"\b(await_ready|await_suspend|promise_type|plait_awaitable_tag|operator co_await)\b", PRIVATE),
    (r"\b\w+_awaitable\(", PRIVATE),
    (r"^(template <.*> )?\w+\(.*\) -> ", PRIVATE),  # a deduction guide
    (r"\bawait_resume\(", "What the co_await gives."),
    (r"\b(\w+)\(const \1&|operator=\(const ", "Copies."),
    (r"\b(\w+)\(\1&&|operator=\(\w+&&", "Moves."),
    (r"operator(==|<=>)\(", "Compares what they stand for."),
    (r"operator<<\(", "Writes what to_string() gives."),
    (r"~\w+\(", "Ends its life."),
    (r"\b(decode|finish|encode)\(std::span", "See the concept `codec`."),
)]


def depth_of(line: str) -> int:
    code = re.sub(r"'(\\.|[^'\\])'|\"(\\.|[^\"\\])*\"|//.*", "", line)
    return sum(code.count(opening) - code.count(closing) for opening, closing in ("{}", "()"))


def declaration(lines: list[str], first: int) -> tuple[int, str, bool]:
    """The line behind the declaration that begins at `first`, its text, and whether it opens a class."""
    depth, text = 0, ""
    for number in range(first, len(lines)):
        line = lines[number]
        depth += depth_of(line)
        text += line.strip() + " "
        code = line.split("//")[0].rstrip()
        if depth == 1 and code.endswith("{") and OPENS_CLASS.match(text):
            return number + 1, text, True
        if depth == 0 and code.endswith((";", "}", ",")):
            return number + 1, text, False
    return len(lines), text, False


def prepare(text: str, shows_detail: bool) -> str:
    lines = text.replace("namespace plait::inline v1 {", "namespace plait {").split("\n")
    if lines[0] == "#pragma once":
        lines[0] = "/// @file"
    if "struct fmt::" in text:  # then there is nothing else
        top = next(number for number, line in enumerate(lines) if not line.startswith("///"))
        return "\n".join(lines[:top] + [""] * (len(lines) - top))

    said: list[str] = []  # the comment that counts for the declarations below it
    is_above = False  # it stands right above, where Doxygen finds it by itself
    number = 0
    while number < len(lines):
        line = lines[number]
        words = line.strip()
        if line == "namespace detail {" and not shows_detail:
            end = lines.index("} // namespace detail", number)
            lines[number] = "/** @cond */ " + line
            lines[end] += " /** @endcond */"
            number = end
        elif not words:
            said, is_above = [], False
        elif INTERNAL.match(line):
            said, is_above = [PRIVATE], False
        elif words.startswith("///") and not words.startswith("///<"):
            if not is_above:
                said = []
            if not words.startswith("///     "):  # code
                said.append(words[3:].strip())
            is_above = True
        elif not NO_DECLARATION.match(line):
            behind, whole, opens = declaration(lines, number)
            head = re.split(r" : |\{", whole)[0]
            evident = [what for pattern, what in EVIDENT if pattern.search(head)][:1]
            if evident == [PRIVATE] or evident and not said:
                told = evident[0]
            else:
                told = " ".join(said)
            if told and "///<" not in whole and (told == PRIVATE or not is_above):
                indent = len(line) - len(line.lstrip())
                lines[number] = f"{line[:indent]}/** {told} */ {line[indent:]}"
            if opens:
                said = []
            is_above = False
            number = behind
            continue
        number += 1
    return "\n".join(lines)


def main() -> int:
    path = Path(sys.argv[1])
    sys.stdout.reconfigure(encoding="utf-8")
    print(prepare(path.read_text(encoding="utf-8"), path.name == "stream_socket.hpp"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
