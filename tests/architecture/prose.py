"""The prose linter of `make check`: project word list, proselint and codespell over everything that a person reads.

It reads the Markdown pages (without code), the docstrings, comments and messages of the Python files, the web pages,
and the comments of recipes and prefect.yaml. In tests it leaves string literals out: they hold sample data. A line that
must break a rule, such as the name of an interface, goes into `ALLOWED`.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proselint import checks as proselint_checks
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = (".md", ".py", ".html", ".toml", ".yaml", ".template")

# pattern -> what to write instead
# "is no file" for "is not a file"; "there is no" is English, and so are "is no longer" and "is no better"
IS_NO = (
    r"(?<!there )(?<!here )\b(is|are|was|were|be) no "
    r"(?!longer|better|worse|more|less|fewer|later|larger|smaller|one)\w+"
)
WORDS = {
    r"\banew\b": "again",
    r"\bbeside\b": "next to, with, besides",
    r"\b(un)?mend(s|ed|ing|able)?\b": "fix",
    r"\btold\b": "given, passed, reported",
    r"\b(be|is|are|was) said\b": "is reported, is stated",
    r"\bby hand\b": "manually",
    IS_NO: "is not",
    r"\bfor want of\b": "without, for lack of",
    r"\b(hold|holds|held|holding) (it |them |two |one )?against\b": "compare with",
    r"\b(is|are) to be\b": "must be, should be",
    r"\b(file|folder|row|record|photograph|copy|data|database|adapter|version)s? (that )?lies?\b": "is stored in",
    r"\bof a kind\b": "of one type",
    r"\bputs? (it |them |things |that )?right\b": "fixes, corrects",
    r"\bgo(es)? on (with|where|after|from)\b": "continue",
    r"\bstutter(s|ed|ing)?\b": "repetition",
    r"\btwins?\b": "near-duplicate",
    r"\blessons?\b": "training data",
    r"\bstopped being a number\b": "became NaN or infinite",
    r"\b(four|upper|lower|ground|three) floors?\b": "layer",
    r"\bfloors\b": "layers",
    r"\brooms\b": "packages",
    r"\bthe (rest of the )?house\b": "the project",
    r"\bPRODUCT\b": "name a page of docs/ instead",
    r"\banybody else's\b": "another user's",
    r"\bas everywhere\b": "as in the other commands",
    r"\btells? nobody\b": "ignore",
    r"\bin the way that\b": "as",
    r"\bsuit(s|ed) the machine\b": "the default of this platform",
    r"\bwithout a word\b": "silently",
}
STUTTERING = r"stutter\w*"  # a gate, and a key of recipes and reports
MISSPELLED = "trian"  # deliberate: the tests expect a suggestion or a refusal
# path prefix -> words that it may use: an interface, or text that the bundled model was trained on
ALLOWED: dict[str, tuple[str, ...]] = {
    "tests/architecture/prose.py": (".*",),
    "tests/architecture/test_prose.py": (".*",),
    "mondrian_core/mini/": ("beside", "lies?"),
    "mini_training/": ("beside", "lies?"),
    "mondrian_core/data/augmentation/paraphrase_rules.py": (".*",),
    "mondrian_core/data/augmentation/english_detection.py": (".*",),
    "tests/data/test_english_detection.py": (".*",),
    "mondrian_core/evaluation/gates/": (STUTTERING,),
    "docs/reference/gates.md": (STUTTERING,),
    "docs/decisions/0076": (STUTTERING,),
    "mondrian_core/evaluation/": ("mended",),  # a key of stored reports
    "tasks/promote.py": ("by hand",),  # the name of a task in Prefect's history
    "tests/cli/test_commands.py": (MISSPELLED,),
    "tests/flows/test_prefect_yaml.py": (MISSPELLED,),
}
# Proselint's opinions on typography, money, dates and names don't fit technical pages.
OFF = ("typography", "dates_times", "lexical_illusions", "needless_variants", "spelling", "weasel_words", "misc")
CODESPELL_IGNORED = "ans,als,doub,fram,iif,ist,leeg,linke,oder,offen,te,ure,vie"


@dataclass(frozen=True)
class Finding:
    """One place where the prose breaks a rule."""

    file: Path
    line: int
    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.found!r}: {self.advice}"


def prose_of(file: Path, text: str) -> Iterator[tuple[int, str]]:
    """Pieces of `text` that a person reads, each with the number of its first line."""
    match file.suffix:
        case ".py":
            yield from _python_prose(text, messages=file.parts[0] != "tests")
        case ".md":
            yield 1, _without_code(text)
        case ".toml" | ".yaml":
            for number, line in enumerate(text.splitlines(), 1):
                yield number, line.partition("#")[2] if "description:" not in line else line
        case _:
            yield 1, re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", _blank, text, flags=re.DOTALL)


def _blank(match: re.Match[str]) -> str:
    """Spaces instead of the match, with its line breaks, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", match[0])


def _without_code(text: str) -> str:
    return re.sub(r"^( *)```.*?^\1```|`[^`\n]*`|\]\([^)]*\)", _blank, text, flags=re.DOTALL | re.MULTILINE)


def _python_prose(source: str, *, messages: bool) -> Iterator[tuple[int, str]]:
    """Comments, docstrings, and with `messages` every other string literal of several words."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], _without_code(token.string.lstrip("# "))
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) in docstrings or (messages and node.value.strip().count(" ") >= 2):
            yield node.lineno, _without_code(node.value)


def _allowed_words(file: Path) -> list[str]:
    return [word for prefix, words in ALLOWED.items() if str(file).startswith(prefix) for word in words]


def _is_allowed(word: str, allowed: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, word) for pattern in allowed)


def word_findings(file: Path, text: str) -> Iterator[Finding]:
    """Words and phrases of the project's list."""
    allowed = _allowed_words(file)
    for first_line, piece in prose_of(file, text):
        for pattern, advice in WORDS.items():
            for match in re.finditer(pattern, piece):
                if not _is_allowed(match[0], allowed):
                    yield Finding(file, first_line + piece.count("\n", 0, match.start()), match[0], advice)


def proselint_findings(file: Path, text: str) -> Iterator[Finding]:
    """Clichés, redundancies, hedges and the like, in one pass per file."""
    lines: dict[int, list[str]] = {}
    for first_line, piece in prose_of(file, text):
        for offset, line in enumerate(piece.splitlines()):
            lines.setdefault(first_line + offset, []).append(line)
    content = "\n".join(" ".join(lines.get(number, [])) for number in range(1, max(lines, default=0) + 1))
    if not CheckRegistry().checks:
        CheckRegistry().register_many(proselint_checks.__register__)
    checks = {name: value and name not in OFF for name, value in DEFAULT["checks"].items()}
    for result in LintFile(str(file), content).lint(Config(max_errors=1000, checks=checks)) if content else []:
        yield Finding(file, result.pos[0], result.check_result.check_path, result.check_result.message)


def codespell_findings(root: Path, files: Iterable[Path]) -> Iterator[Finding]:
    """Misspellings, in code as well as in prose."""
    wanted = [str(file) for file in files if ".*" not in ALLOWED.get(str(file), ())]
    command = [sys.executable, "-m", "codespell_lib", "--ignore-words-list", CODESPELL_IGNORED, *wanted]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        name, number, correction = line.split(":", 2)
        word = correction.partition("==>")[0].strip()
        if not _is_allowed(word, _allowed_words(Path(name))):
            yield Finding(Path(name), int(number), word, correction.strip())


def findings(root: Path, files: Iterable[Path]) -> list[Finding]:
    """Every finding in `files`, whose paths are relative to `root`."""
    wanted = [file for file in files if file.suffix in SUFFIXES]
    found: list[Finding] = []
    for file in wanted:
        text = (root / file).read_text(encoding="utf-8")
        found += word_findings(file, text)
        if file.suffix == ".md":
            found += proselint_findings(file, text)
    return [*found, *codespell_findings(root, wanted)]


def main() -> int:
    """Print the findings in the tracked files and their counts; 1 when there are any."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]
    found = findings(ROOT, files)
    for finding in found:
        print(finding)
    for text, count in Counter(finding.found.lower() for finding in found).most_common(20):
        print(f"{count:6} {text}")
    print(f"Prose: {len(found)} findings.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
