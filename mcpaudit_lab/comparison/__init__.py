"""What changed between two JSON trees, two texts, two events.

Input: two values. Output: changes by path, with a third verdict, ``unknown``, where something was
redacted. The standard library alone. The room is not called ``compare``, as its function is: a
package of that name would hide it.
"""

from mcpaudit_lab.comparison.change import Change, ChangeKind, lines_diff
from mcpaudit_lab.comparison.comparison import Comparison, Section, Verdict, compare
from mcpaudit_lab.comparison.grouping import ChangeGroup, ComparedTool, ComparisonGroups
from mcpaudit_lab.comparison.jsondiff import diff
from mcpaudit_lab.comparison.paths import (
    Path,
    PathMatcher,
    compile_patterns,
    format_path,
    parse_path_pattern,
)
from mcpaudit_lab.comparison.sections import FILLER, SECTIONS, known_sections
from mcpaudit_lab.comparison.textdiff import Hunk, TextDiff, TextLine, diff_texts

__all__ = [
    "FILLER",
    "SECTIONS",
    "Change",
    "ChangeGroup",
    "ChangeKind",
    "ComparedTool",
    "Comparison",
    "ComparisonGroups",
    "Hunk",
    "Path",
    "PathMatcher",
    "Section",
    "TextDiff",
    "TextLine",
    "Verdict",
    "compare",
    "compile_patterns",
    "diff",
    "diff_texts",
    "format_path",
    "known_sections",
    "lines_diff",
    "parse_path_pattern",
]
