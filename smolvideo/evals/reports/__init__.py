"""Report files of a run.

report_files.py  Markdown, CSV, and one HTML file to browse: scores, items, frames, answers
                 (with report.css and report.js)
lmms_eval.py     the result files of lmms-eval
"""

from smolvideo.evals.reports.lmms_eval import export_lmms_eval
from smolvideo.evals.reports.report_files import csv_report, html_report, markdown_report

__all__ = ["csv_report", "export_lmms_eval", "html_report", "markdown_report"]
