"""Loading a shop's files: csv, jsonl and parquet into customers, products and events."""

from pipeline.loading.load import load_file
from pipeline.loading.rejects import remember_rejects
from pipeline.loading.report import LoadReport
from pipeline.loading.targets import TableName

__all__ = ["LoadReport", "TableName", "load_file", "remember_rejects"]
