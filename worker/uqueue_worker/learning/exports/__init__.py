"""Samples as one flat table for programs that read no Avro: CSV, Parquet and HDF5.

One row per sample. A column is named by its feature path (`exports.leaves`) and typed by the Avro schema: text, bool,
int64, float32, float64, moments in UTC, and JSON text for lists of texts and for keys of maps whose values are of
several types. Images and lists of numbers have a column for each reducer (`…|max`, `…|mean`, `…|std`, `…|p95`); HDF5
keeps them whole besides, and lists of records too, which CSV and Parquet leave out. The file's metadata says so.
"""

from __future__ import annotations

from uqueue_worker.learning.exports.writing import SUFFIXES, ExportReport, check_installed, write_table

__all__ = ["SUFFIXES", "ExportReport", "check_installed", "write_table"]
