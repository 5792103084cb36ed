"""A case as one zip file that anybody can check: writing it, and ``verify.py``, which checks it.

Input: the parts of a case as files. Output: a zip file that is the same, byte for byte, for the
same parts. ``verify.py`` is a part of each bundle; it needs Python's standard library alone.
"""

from mcpaudit_lab.bundle.redaction import Redactor, commitment
from mcpaudit_lab.bundle.verify import Check
from mcpaudit_lab.bundle.writing import BundleParts, write_zip

__all__ = ["BundleParts", "Check", "Redactor", "commitment", "write_zip"]
