"""Report files of a run.

markdown_csv.py  Markdown and CSV
html.py, report.css, report.js
                 one HTML file to browse: scores, items, frames, answers
lmms_eval.py     the result files of lmms-eval
"""

from smolvideo.evals.reports.html import html_report
from smolvideo.evals.reports.lmms_eval import export_lmms_eval
from smolvideo.evals.reports.markdown_csv import csv_report, markdown_report

__all__ = ["csv_report", "export_lmms_eval", "html_report", "markdown_report"]
