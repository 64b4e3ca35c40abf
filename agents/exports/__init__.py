"""Files that people take home: answers as tables, packages and sorted pictures.

`rows.py` holds the row that every format is made of, `write.py` brings rows through the gate into a file, and each
format has a module of its own.
"""

from agents.exports.rows import ExportBox, ExportFormat, ExportOptions, ExportRow, ExportSummary
from agents.exports.sorting import PictureSorter
from agents.exports.write import write

__all__ = ["ExportBox", "ExportFormat", "ExportOptions", "ExportRow", "ExportSummary", "PictureSorter", "write"]
